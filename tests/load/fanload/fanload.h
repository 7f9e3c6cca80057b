/* fanload - a neutral fan-out load client: one thread, epoll, no dependencies (Linux).
 *
 * Opens connections (WebSocket, NATS over WebSocket, SSE), publishes events itself (NATS or HTTP) in a
 * closed loop (--window) or an open loop (--rate), and counts deliveries. A delivery is one occurrence of
 * the marker `"t":` with nanoseconds of CLOCK_REALTIME behind it; each one's position in the stream is
 * read beside it and must follow the one before on the same connection.
 *
 * It prints READY once every connection is open and one line of JSON at the end. It never judges.
 */
#ifndef FANLOAD_H
#define FANLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOST_SENDS = 8, CARRY_BYTES = 96, READ_BYTES = 1 << 20 };
enum mode { MODE_WS, MODE_SSE, MODE_NATS };
enum state { CONNECTING, HANDSHAKE, OPEN, DEAD };
/* Where a delivery's position is read: nowhere, in the body's "id", in "cursor" (WebSocket), in the `id:` line (SSE). */
enum order { ORDER_NONE, ORDER_BODY, ORDER_CURSOR, ORDER_ID };
/* A stalled connection is read no more; a woken one is read again, but its latencies are nobody's measure. */
enum pace { READING, STALLED, WOKEN };

struct options {
  const char *path, *ready_on, *publish, *header_file;
  const char *sends[MOST_SENDS], *headers[MOST_SENDS];
  int send_count, header_count;
  int port, connections, inflight, stall, window, size, warm, depth;
  enum mode mode;
  enum order order;
  double duration, settle, idle_end, max_time, rate;
  uint64_t expect_each, count, channels, step, after, fan;
  bool hold;
};

struct connection {
  int fd, index;
  uint8_t state, pace;
  bool ready;
  /* The WebSocket frame being read: header so far, payload left, control payload or first bytes. */
  uint8_t header[14], header_length, opcode, head_length;
  uint8_t head[125];
  uint64_t left;
  /* Deliveries, and the position of the last one. */
  uint64_t got, position;
  /* Bytes of the present event's padding that nobody needs to look at. */
  uint32_t skip;
  /* The last bytes read, where a marker may have been cut, and how many of them have been searched. */
  uint8_t carried, searched;
  char carry[CARRY_BYTES];
  /* The HTTP answer so far; what did not fit the socket. */
  char *answer, *unsent;
  int answer_length, unsent_length;
};

struct totals {
  uint64_t opened, ready, dead, errors, deliveries, bytes, reads, caught_up;
  uint64_t first_ns, last_ns, disordered, missing, checked;
};

extern struct options opt;
extern struct totals total;
extern struct connection *connections;
extern int poller;
/* One read's bytes, with room for a carry before them. */
extern char *reading;

uint64_t now_ns(void);
void die(const char *format, ...);
/* `format` with each %d as `number`. */
void fill(char *to, size_t room, const char *format, long number);

void options_read(int count, char **values);

void connection_start(int index);
void connection_event(struct connection *c, uint32_t events);
void connection_stall(struct connection *c);
void connection_wake(struct connection *c);
void connections_print_closes(void);

void frames_walk(struct connection *c, const uint8_t *bytes, size_t length);
void frame_send(struct connection *c, int opcode, const void *payload, size_t length);
void connection_send(struct connection *c, const void *bytes, int length);
void connection_kill(struct connection *c);
void connection_is_ready(struct connection *c);
void close_code_seen(unsigned code);

void deliveries_read(struct connection *c, char *bytes, size_t length);
double latency_ms(double share);
double latency_max_ms(void);

void publisher_open(void);
void publisher_event(uint32_t events);
void publisher_pump(uint64_t now);
uint64_t publisher_count(void);
uint64_t publisher_last_ns(void);

#endif
