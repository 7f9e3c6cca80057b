/* The command line. Every option is said in `usage`; there are no others. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fanload.h"

struct options opt = {
    .path = "/", .port = 8000, .connections = 1, .inflight = 256, .window = 64, .size = 300, .depth = 64,
    .settle = 0.3, .idle_end = 3.0, .max_time = 120,
};

static const char usage[] =
    "fanload --port N [options]    %d in paths, headers, messages and the publisher's target is a number\n"
    "  -n N --inflight N           connections (%d: which), how many open at once\n"
    "  --mode ws|sse|nats --path P --header H --header-file F (a line for each connection) --send MESSAGE\n"
    "  --ready-on TEXT             a connection is ready once it has read this\n"
    "  --order body|cursor|id --step N --after N    verify positions: where, distance (0: any), the one before the first\n"
    "  --pub nats://H:P/SUBJECT|http://H:P/PATH --count N --channels N (%d: which) --size BYTES\n"
    "  --window N --fan N --depth N   closed loop: events in flight, deliveries of each, HTTP requests in flight\n"
    "  --rate N                    open loop: events a second\n"
    "  --warm N                    events without a latency\n"
    "  --duration S --expect-each N --hold --idle-end S --max-time S --settle S    when it ends, how long it waits\n"
    "  --stall N                   the first N stop reading at SIGUSR1 and read again at SIGUSR2, which also ends the publishing\n";

static const char *argument(int *i, int count, char **values) {
  if (*i + 1 >= count) die("%s needs a value", values[*i]);
  return values[++*i];
}

static int choice(const char *given, const char *const *names, int count) {
  for (int i = 0; i < count; i++)
    if (!strcmp(given, names[i])) return i;
  die("%s is none of the choices", given);
  return 0;
}

/* Literal \r and \n of the command line. */
static const char *unescaped(const char *text) {
  char *result = malloc(strlen(text) + 1), *to = result;
  for (; *text; text++) {
    if (*text == '\\' && text[1]) {
      text++;
      *to++ = *text == 'r' ? '\r' : *text == 'n' ? '\n' : *text;
    } else *to++ = *text;
  }
  *to = 0;
  return result;
}

static void add(const char **list, int *count, const char *value) {
  if (*count == MOST_SENDS) die("at most %d of these", MOST_SENDS);
  list[(*count)++] = value;
}

void options_read(int count, char **values) {
  static const char *const modes[] = {"ws", "sse", "nats"};
  static const char *const orders[] = {"none", "body", "cursor", "id"};
  const struct { const char *name; const char **to; } texts[] = {
      {"--path", &opt.path}, {"--ready-on", &opt.ready_on}, {"--pub", &opt.publish}, {"--header-file", &opt.header_file}};
  const struct { const char *name; int *to; } numbers[] = {
      {"--port", &opt.port}, {"-n", &opt.connections}, {"--inflight", &opt.inflight}, {"--stall", &opt.stall},
      {"--window", &opt.window}, {"--size", &opt.size}, {"--warm", &opt.warm}, {"--depth", &opt.depth}};
  const struct { const char *name; uint64_t *to; } counts[] = {
      {"--expect-each", &opt.expect_each}, {"--count", &opt.count}, {"--channels", &opt.channels},
      {"--step", &opt.step}, {"--after", &opt.after}, {"--fan", &opt.fan}};
  const struct { const char *name; double *to; } decimals[] = {
      {"--duration", &opt.duration}, {"--settle", &opt.settle}, {"--idle-end", &opt.idle_end},
      {"--max-time", &opt.max_time}, {"--rate", &opt.rate}};
#define TABLE(table, parse)                                            \
  for (size_t k = 0; k < sizeof table / sizeof *table && !known; k++)  \
    if ((known = !strcmp(name, table[k].name))) *table[k].to = parse
  for (int i = 1; i < count; i++) {
    const char *name = values[i];
    bool known = false;
    TABLE(texts, argument(&i, count, values));
    TABLE(numbers, atoi(argument(&i, count, values)));
    TABLE(counts, strtoull(argument(&i, count, values), NULL, 10));
    TABLE(decimals, atof(argument(&i, count, values)));
    if (known) continue;
    if (!strcmp(name, "--mode")) opt.mode = choice(argument(&i, count, values), modes, 3);
    else if (!strcmp(name, "--order")) opt.order = choice(argument(&i, count, values), orders, 4);
    else if (!strcmp(name, "--header")) add(opt.headers, &opt.header_count, argument(&i, count, values));
    else if (!strcmp(name, "--send")) add(opt.sends, &opt.send_count, unescaped(argument(&i, count, values)));
    else if (!strcmp(name, "--hold")) opt.hold = true;
    else if (!strcmp(name, "--help")) {
      fputs(usage, stdout);
      exit(0);
    } else die("unknown option %s", name);
  }
  if (!opt.fan) opt.fan = opt.connections;
}
