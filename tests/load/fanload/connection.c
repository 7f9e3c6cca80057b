/* One connection: socket, HTTP handshake, first messages, reading. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fanload.h"

enum { LONGEST_REQUEST = 8192, LONGEST_LINE = 2048, HIGHEST_CODE = 5000, STALLED_RECEIVE_BYTES = 32768 };

static uint32_t closes[HIGHEST_CODE];
/* The lines of --header-file; connection i sends line i. */
static char **lines;
static long line_count;

static void watch(struct connection *c, int how, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  epoll_ctl(poller, how, c->fd, &event);
}

void close_code_seen(unsigned code) {
  if (code < HIGHEST_CODE) closes[code]++;
}

void connections_print_closes(void) {
  const char *comma = "";
  for (int code = 0; code < HIGHEST_CODE; code++)
    if (closes[code]) {
      printf("%s\"%d\":%u", comma, code, closes[code]);
      comma = ",";
    }
}

void connection_kill(struct connection *c) {
  if (c->state == DEAD) return;
  if (c->state == OPEN) total.dead++;
  else total.errors++;
  close(c->fd);
  c->state = DEAD;
}

void connection_is_ready(struct connection *c) {
  if (!c->ready) total.ready++;
  c->ready = true;
}

void connection_send(struct connection *c, const void *bytes, int length) {
  ssize_t sent = 0;
  if (!c->unsent_length) {
    sent = send(c->fd, bytes, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return connection_kill(c);
    if (sent < 0) sent = 0;
    if (sent == length) return;
    watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
  }
  int rest = length - sent;
  c->unsent = realloc(c->unsent, c->unsent_length + rest);
  memcpy(c->unsent + c->unsent_length, (const char *)bytes + sent, rest);
  c->unsent_length += rest;
}

static void send_rest(struct connection *c) {
  ssize_t sent = send(c->fd, c->unsent, c->unsent_length, MSG_NOSIGNAL);
  if (sent <= 0) return;
  memmove(c->unsent, c->unsent + sent, c->unsent_length - sent);
  c->unsent_length -= sent;
  if (!c->unsent_length) watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

/* Line `index` of --header-file, which is read with the first. */
static const char *header_line(int index) {
  if (!lines) {
    FILE *file = fopen(opt.header_file, "r");
    char *line = NULL;
    size_t room = 0;
    if (!file) die("%s: %s", opt.header_file, strerror(errno));
    for (ssize_t length; (length = getline(&line, &room, file)) > 0; line_count++) {
      if (line[length - 1] == '\n') line[length - 1] = 0;
      lines = realloc(lines, (line_count + 1) * sizeof *lines);
      lines[line_count] = strdup(line);
    }
    fclose(file);
    free(line);
    if (!line_count) die("%s holds no line", opt.header_file);
  }
  return lines[index % line_count];
}

static int add_line(char *request, int at, const char *line) {
  if (at + strlen(line) + 5 > LONGEST_REQUEST) die("the request is too long");
  return at + sprintf(request + at, "%s\r\n", line);
}

static void start_handshake(struct connection *c) {
  char request[LONGEST_REQUEST], line[LONGEST_LINE], path[1024];
  fill(path, sizeof path, opt.path, c->index);
  snprintf(line, sizeof line, "GET %s HTTP/1.1", path);
  int at = add_line(request, 0, line);
  snprintf(line, sizeof line, "Host: 127.0.0.1:%d", opt.port);
  at = add_line(request, at, line);
  if (opt.mode == MODE_SSE) at = add_line(request, at, "Accept: text/event-stream");
  else
    at = add_line(request, at,
                  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==");
  for (int i = 0; i < opt.header_count; i++) {
    fill(line, sizeof line, opt.headers[i], c->index);
    at = add_line(request, at, line);
  }
  if (opt.header_file) at = add_line(request, at, header_line(c->index));
  at = add_line(request, at, "");
  c->state = HANDSHAKE;
  connection_send(c, request, at);
}

static void opened(struct connection *c) {
  char message[LONGEST_LINE];
  c->state = OPEN;
  total.opened++;
  if (opt.mode == MODE_NATS) {
    static const char hello[] = "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\n";
    frame_send(c, 2, hello, sizeof hello - 1);
  }
  for (int i = 0; i < opt.send_count; i++) {
    fill(message, sizeof message, opt.sends[i], c->index);
    frame_send(c, opt.mode == MODE_NATS ? 2 : 1, message, strlen(message));
  }
  if (opt.mode == MODE_NATS) frame_send(c, 2, "PING\r\n", 6); /* its PONG says that SUB was taken */
  else if (!opt.ready_on) connection_is_ready(c);
}

static void take(struct connection *c, size_t length) {
  char *bytes = reading + CARRY_BYTES;
  total.bytes += length;
  total.reads++;
  if (opt.mode != MODE_SSE) frames_walk(c, (uint8_t *)bytes, length);
  deliveries_read(c, bytes, length);
}

/* Collect the answer's head; what follows it is the stream's. */
static void take_answer(struct connection *c, size_t length) {
  c->answer = realloc(c->answer, c->answer_length + length + 1);
  memcpy(c->answer + c->answer_length, reading + CARRY_BYTES, length);
  c->answer_length += length;
  c->answer[c->answer_length] = 0;
  char *end = memmem(c->answer, c->answer_length, "\r\n\r\n", 4);
  if (!end) return;
  const char *wanted = opt.mode == MODE_SSE ? " 200" : " 101";
  if (c->answer_length < 12 || memcmp(c->answer + 8, wanted, 4)) {
    if (!total.errors) fprintf(stderr, "handshake: %.300s\n", c->answer);
    return connection_kill(c);
  }
  size_t rest = c->answer_length - (end + 4 - c->answer);
  memcpy(reading + CARRY_BYTES, end + 4, rest);
  opened(c);
  free(c->answer);
  c->answer = NULL;
  if (rest && c->state == OPEN) take(c, rest);
}

static void receive(struct connection *c) {
  ssize_t got;
  do {
    got = recv(c->fd, reading + CARRY_BYTES, READ_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return connection_kill(c);
    if (c->state == HANDSHAKE) take_answer(c, got);
    else take(c, got);
  } while (c->state != DEAD && got == READ_BYTES);
}

void connection_start(int index) {
  struct connection *c = &connections[index];
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(opt.port)};
  int one = 1, small = STALLED_RECEIVE_BYTES;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  c->index = index;
  c->position = opt.after;
  c->state = CONNECTING;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c->fd < 0) die("socket: %s", strerror(errno));
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  /* So that it is the server's buffer that fills, not the kernel's. */
  if (index < opt.stall) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
  if (connect(c->fd, (void *)&address, sizeof address) < 0 && errno != EINPROGRESS) connection_kill(c);
}

void connection_event(struct connection *c, uint32_t events) {
  if (c->state == DEAD) return;
  if (c->state == CONNECTING) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
      if (!total.errors) fprintf(stderr, "connect: %s\n", strerror(error));
      return connection_kill(c);
    }
    if (events & EPOLLOUT) {
      watch(c, EPOLL_CTL_MOD, EPOLLIN);
      start_handshake(c);
    }
    return;
  }
  if (events & EPOLLOUT && c->unsent_length) send_rest(c);
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
}

void connection_stall(struct connection *c) {
  if (c->state != OPEN) return;
  c->pace = STALLED;
  epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
}

void connection_wake(struct connection *c) {
  if (c->state != OPEN || c->pace != STALLED) return;
  c->pace = WOKEN;
  watch(c, EPOLL_CTL_ADD, EPOLLIN);
}
