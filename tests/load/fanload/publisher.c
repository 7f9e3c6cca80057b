/* The publisher within the client: NATS or HTTP, one connection, closed loop (--window) or open loop (--rate). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fanload.h"

enum { ROOM = 4 << 20, LONGEST_BODY = 8192, LONGEST_TARGET = 512 };

static int fd = -1;
static bool http, wants_out;
static char host[64], target[256], padding[LONGEST_BODY];
static char *waiting;
static size_t waiting_from, waiting_to;
static uint64_t published, answered, last_ns, began_ns;

static void await_pong(void) {
  static const char hello[] = "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\nPING\r\n";
  char text[4096];
  int length = 0;
  if (write(fd, hello, sizeof hello - 1) < 0) die("publisher: %s", strerror(errno));
  do {
    int got = read(fd, text + length, sizeof text - 1 - length);
    if (got <= 0) die("publisher: no PONG from NATS");
    length += got;
    text[length] = 0;
  } while (!strstr(text, "PONG"));
}

void publisher_open(void) {
  char scheme[8];
  int port, one = 1;
  if (sscanf(opt.publish, "%7[^:]://%63[^:]:%d/%255s", scheme, host, &port, target) != 4) die("--pub %s?", opt.publish);
  if (opt.size >= LONGEST_BODY) die("--size %d is too large", opt.size);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, host, &address.sin_addr);
  http = !strcmp(scheme, "http");
  fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(fd, (void *)&address, sizeof address)) die("publisher: %s", strerror(errno));
  if (!http) await_pong();
  fcntl(fd, F_SETFL, O_NONBLOCK);
  waiting = malloc(ROOM);
  memset(padding, 'x', sizeof padding);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static void flush(void) {
  while (waiting_from < waiting_to) {
    ssize_t sent = send(fd, waiting + waiting_from, waiting_to - waiting_from, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) break;
    if (sent < 0) die("publish: %s", strerror(errno));
    waiting_from += sent;
  }
  if (waiting_from == waiting_to) waiting_from = waiting_to = 0;
  bool wants = waiting_from < waiting_to;
  if (wants == wants_out) return;
  struct epoll_event event = {.events = EPOLLIN | (wants ? EPOLLOUT : 0), .data.ptr = NULL};
  epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event);
  wants_out = wants;
}

/* `{"t":<due>,"id":"<number>",…}` of --size bytes; the reader relies on this shape. Ids begin at 1. */
static int write_body(char *body, uint64_t due) {
  int at = sprintf(body, "{\"t\":%llu,\"id\":\"%llu\",\"type\":\"order.updated\",\"data\":{\"pad\":\"", (unsigned long long)due,
                   (unsigned long long)published + 1);
  int pad = opt.size - at - 3;
  if (pad < 0) pad = 0;
  memcpy(body + at, padding, pad);
  return at + pad + sprintf(body + at + pad, "\"}}");
}

/* False where there is no room for another. */
static bool publish(uint64_t due) {
  char where[LONGEST_TARGET], body[LONGEST_BODY + 128];
  if (ROOM - waiting_to < LONGEST_BODY + 1024) return false;
  fill(where, sizeof where, target, opt.channels ? (long)(published % opt.channels) : 0);
  int length = write_body(body, due);
  char *to = waiting + waiting_to;
  if (http) to += sprintf(to, "POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", where, length);
  else to += sprintf(to, "PUB %s %d\r\n", where, length);
  memcpy(to, body, length);
  to += length;
  if (!http) to = mempcpy(to, "\r\n", 2);
  waiting_to = to - waiting;
  published++;
  last_ns = due;
  return true;
}

/* Count HTTP answers; answer NATS's pings. */
static void take(const char *bytes, ssize_t length) {
  static const char mark[] = "HTTP/1.1 ";
  static int matched;
  if (!http) {
    if (memmem(bytes, length, "PING", 4) && waiting_to + 6 < ROOM) {
      memcpy(waiting + waiting_to, "PONG\r\n", 6);
      waiting_to += 6;
    }
    return;
  }
  for (ssize_t i = 0; i < length; i++) {
    matched = bytes[i] == mark[matched] ? matched + 1 : bytes[i] == mark[0];
    if (!mark[matched]) {
      answered++;
      matched = 0;
    }
  }
}

void publisher_event(uint32_t events) {
  static char bytes[65536];
  ssize_t got = 1;
  while (events & EPOLLIN && (got = recv(fd, bytes, sizeof bytes, 0)) > 0) take(bytes, got);
  if (!got) die("the publisher's connection was closed: %.200s", bytes);
  flush();
}

void publisher_pump(uint64_t now) {
  if (opt.rate > 0) {
    if (!began_ns) began_ns = now;
    uint64_t due = (uint64_t)((now - began_ns) * opt.rate / 1e9) + 1;
    while (published < due && published < opt.count)
      if (!publish(began_ns + (uint64_t)(published * 1e9 / opt.rate))) break;
  } else {
    while (published < opt.count && published * opt.fan < total.deliveries + opt.window * opt.fan) {
      if (http && published - answered >= (uint64_t)opt.depth) break;
      if (!publish(now_ns())) break;
    }
  }
  flush();
}

uint64_t publisher_count(void) { return published; }
uint64_t publisher_last_ns(void) { return last_ns; }
