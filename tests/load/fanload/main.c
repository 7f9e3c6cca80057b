/* The loop: open the connections, then publish and read until one of the ends that were asked for. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

#include "fanload.h"

enum { EVENTS_AT_ONCE = 1024, WAIT_MS = 100 };

struct totals total;
struct connection *connections;
int poller;
char *reading;

static volatile sig_atomic_t stop, stall_asked, wake_asked;
/* When it began; when all were open, all were ready, and the work began; when all had caught up. 0: not yet. */
static uint64_t began, all_open, all_ready, announced, caught_up;
static double cpu_at_ready;

uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1000000000ull + now.tv_nsec;
}

void die(const char *format, ...) {
  va_list values;
  va_start(values, format);
  fputs("fanload: ", stderr);
  vfprintf(stderr, format, values);
  fputc('\n', stderr);
  va_end(values);
  exit(2);
}

void fill(char *to, size_t room, const char *format, long number) {
  size_t at = 0;
  for (; *format && at + 24 < room; format++) {
    if (format[0] == '%' && format[1] == 'd') {
      at += sprintf(to + at, "%ld", number);
      format++;
    } else to[at++] = *format;
  }
  if (*format) die("too long: %s", format);
  to[at] = 0;
}

static void on_signal(int number) {
  if (number == SIGUSR1) stall_asked = 1;
  else if (number == SIGUSR2) wake_asked = 1;
  else stop = 1;
}

static double cpu_seconds(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void note_progress(uint64_t now) {
  uint64_t wanted = opt.connections;
  if (!all_open && total.opened + total.errors >= wanted) all_open = now;
  if (!all_ready && total.ready + total.errors + total.dead >= wanted) all_ready = now;
  if (announced || !all_ready || now - all_ready < opt.settle * 1e9) return;
  announced = now;
  cpu_at_ready = cpu_seconds();
  printf("READY %llu %llu\n", (unsigned long long)total.ready, (unsigned long long)total.errors);
  fflush(stdout);
}

static void obey_signals(void) {
  for (int i = 0; i < opt.stall && i < opt.connections; i++) {
    if (stall_asked) connection_stall(&connections[i]);
    if (wake_asked) connection_wake(&connections[i]);
  }
  if (wake_asked) opt.count = publisher_count();
  stall_asked = wake_asked = 0;
}

static bool is_over(uint64_t now) {
  bool published_all = !opt.publish || publisher_count() >= opt.count;
  if (opt.expect_each && total.caught_up + total.errors >= (uint64_t)opt.connections) {
    caught_up = now;
    return true;
  }
  if (total.dead == (uint64_t)opt.connections) return true;
  if (announced && opt.duration > 0 && now - announced > opt.duration * 1e9) return true;
  if (opt.hold) return false;
  if (now - began > opt.max_time * 1e9) return true;
  if (!announced || !published_all || opt.expect_each) return false;
  uint64_t last = total.last_ns > publisher_last_ns() ? total.last_ns : publisher_last_ns();
  return last && now > last && now - last > opt.idle_end * 1e9;
}

static void report(void) {
  double span = (total.last_ns - total.first_ns) / 1e9, cpu = cpu_seconds();
  uint64_t least = ~0ull, most = 0;
  for (int i = 0; i < opt.connections; i++) {
    if (connections[i].pace != READING) continue;
    if (connections[i].got < least) least = connections[i].got;
    if (connections[i].got > most) most = connections[i].got;
  }
#define WHOLE(name, value) printf("\"" name "\":%llu,", (unsigned long long)(value))
#define DECIMAL(name, value) printf("\"" name "\":%.3f,", (double)(value))
#define SECONDS(name, at) DECIMAL(name, (at) ? ((at) - began) / 1e9 : -1)
  putchar('{');
  WHOLE("connections", total.opened), WHOLE("errors", total.errors), WHOLE("dropped", total.dead);
  SECONDS("connect_s", all_open), SECONDS("ready_s", all_ready), SECONDS("caught_up_s", caught_up);
  WHOLE("deliveries", total.deliveries), DECIMAL("span_s", span);
  DECIMAL("deliveries_per_s", span > 0 ? total.deliveries / span : 0);
  WHOLE("bytes", total.bytes), WHOLE("reads", total.reads), WHOLE("published", publisher_count());
  DECIMAL("p50_ms", latency_ms(.5)), DECIMAL("p90_ms", latency_ms(.9)), DECIMAL("p99_ms", latency_ms(.99));
  DECIMAL("max_ms", latency_max_ms());
  WHOLE("min_each", least), WHOLE("max_each", most), WHOLE("caught_up", total.caught_up);
  WHOLE("checked", total.checked), WHOLE("disordered", total.disordered), WHOLE("missing", total.missing);
  DECIMAL("client_cpu_s", cpu), DECIMAL("client_cpu_s_after_ready", announced ? cpu - cpu_at_ready : cpu);
  printf("\"closes\":{");
  connections_print_closes();
  printf("}}\n");
}

int main(int count, char **values) {
  struct epoll_event events[EVENTS_AT_ONCE];
  options_read(count, values);
  signal(SIGPIPE, SIG_IGN);
  const int heeded[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
  for (size_t i = 0; i < sizeof heeded / sizeof *heeded; i++) signal(heeded[i], on_signal);
  connections = calloc(opt.connections, sizeof *connections);
  reading = malloc(CARRY_BYTES + READ_BYTES);
  poller = epoll_create1(EPOLL_CLOEXEC);
  if (opt.publish) publisher_open();
  int started = 0;
  began = now_ns();
  while (!stop) {
    while (started < opt.connections && started - (int)(total.opened + total.errors) < opt.inflight)
      connection_start(started++);
    bool paced = announced && opt.rate > 0 && publisher_count() < opt.count;
    int found = epoll_wait(poller, events, EVENTS_AT_ONCE, paced ? 1 : WAIT_MS);
    for (int i = 0; i < found; i++) {
      if (events[i].data.ptr) connection_event(events[i].data.ptr, events[i].events);
      else publisher_event(events[i].events);
    }
    uint64_t now = now_ns();
    note_progress(now);
    obey_signals();
    if (announced && opt.publish) publisher_pump(now);
    if (is_over(now)) break;
  }
  report();
  return 0;
}
