/* Finds deliveries in what a connection reads: counts them, takes their latency, verifies their order.
 *
 * Costs a tenth of the cheapest server measured: a marker is searched for, and the padding behind it skipped.
 */
#define _GNU_SOURCE
#include <string.h>

#include "fanload.h"

static const char MARKER[] = "\"t\":";
enum { MARKER_LENGTH = 4, TIME_DIGITS = 19, BODY_ID_BYTES = 40 };
/* How much of the body lies before the end of the time, and what is left unskipped to be safe. */
enum { BODY_HEAD = 1 + MARKER_LENGTH + TIME_DIGITS, SAFETY = 8 };

/* Log-linear: 64 steps for each power of two, in microseconds. */
enum { BUCKETS = 64 * 64 };
static uint64_t histogram[BUCKETS], longest_ns;

static int bucket_of(uint64_t us) {
  if (us < 64) return (int)us;
  int exponent = 63 - __builtin_clzll(us);
  return (exponent - 5) * 64 + ((us >> (exponent - 6)) & 63);
}

static double bucket_ms(int bucket) {
  if (bucket < 64) return bucket / 1000.0;
  return (double)((64ull + bucket % 64) << (bucket / 64 - 1)) / 1000.0;
}

double latency_ms(double share) {
  uint64_t all = 0, seen = 0;
  for (int i = 0; i < BUCKETS; i++) all += histogram[i];
  for (int i = 0; i < BUCKETS; i++)
    if ((seen += histogram[i]) > (uint64_t)(share * all) || (all && seen == all)) return bucket_ms(i);
  return -1;
}

double latency_max_ms(void) { return longest_ns / 1e6; }

static void note_latency(uint64_t now, uint64_t due) {
  uint64_t ns = now > due ? now - due : 0;
  histogram[bucket_of(ns / 1000)]++;
  if (ns > longest_ns) longest_ns = ns;
}

/* The decimal number that ends before `end`; 0 where there is none. */
static uint64_t number_before(const char *start, const char *end) {
  uint64_t value = 0, weight = 1;
  while (end > start && end[-1] >= '0' && end[-1] <= '9') {
    value += weight * (uint64_t)(*--end - '0');
    weight *= 10;
  }
  return value;
}

/* The first decimal number within the few bytes from `at`. */
static uint64_t number_after(const char *at, const char *end) {
  const char *last = at + 12;
  while (at < end && at < last && (*at < '0' || *at > '9')) at++;
  uint64_t value = 0;
  while (at < end && *at >= '0' && *at <= '9') value = value * 10 + (uint64_t)(*at++ - '0');
  return value;
}

/* `MARKET.epoch.N","event":{"t":…` or `id: MARKET.epoch.N\n[event: …\n]data: {"t":…`: N, read backwards from the marker. */
static uint64_t cursor_before(const char *start, const char *marker) {
  static const char between[] = "\",\"event\":{";
  const char *at = marker - (sizeof between - 1);
  if (opt.order == ORDER_CURSOR) return at < start || memcmp(at, between, sizeof between - 1) ? 0 : number_before(start, at);
  for (int lines = 0; marker > start && lines < 2; lines++) {
    at = memrchr(start, '\n', marker - start);
    if (!at) return 0;
    uint64_t found = number_before(start, at);
    /* A digit at the end of the `event:` line would be a type's; the `id:` line is the one that has a point before. */
    if (found) return found;
    marker = at;
  }
  return 0;
}

static void check_order(struct connection *c, uint64_t position) {
  if (!position) {
    total.disordered++; /* a delivery that tells no position is as bad as a wrong one */
    return;
  }
  total.checked++;
  if (position <= c->position && c->position) total.disordered++;
  else if (opt.step && c->position && position != c->position + opt.step) total.missing++;
  c->position = position;
}

static void count(struct connection *c, uint64_t now) {
  if (!total.deliveries++) total.first_ns = now;
  total.last_ns = now;
  if (++c->got == opt.expect_each && opt.expect_each) total.caught_up++;
}

/* Keep the end of what was read, searched up to `searched`, for a marker that is cut in two. */
static void carry(struct connection *c, const char *start, const char *end, const char *searched) {
  size_t keep = (size_t)(end - start) < CARRY_BYTES ? (size_t)(end - start) : CARRY_BYTES;
  const char *from = end - keep;
  memmove(c->carry, from, keep);
  c->carried = keep;
  c->searched = searched > from ? searched - from : 0;
}

static void search(struct connection *c, const char *start, const char *at, const char *end) {
  uint64_t now = 0, warm = (uint64_t)opt.warm * opt.fan;
  const size_t needed = TIME_DIGITS + (opt.order == ORDER_BODY ? BODY_ID_BYTES : 0);
  const size_t padding = opt.size > BODY_HEAD + BODY_ID_BYTES + SAFETY ? opt.size - BODY_HEAD - SAFETY : 0;
  const char *marker;
  while ((marker = memmem(at, end - at, MARKER, MARKER_LENGTH))) {
    const char *digits = marker + MARKER_LENGTH;
    while (digits < end && *digits == ' ') digits++;
    if ((size_t)(end - digits) < needed) return carry(c, start, end, marker);
    uint64_t due = 0;
    for (int i = 0; i < TIME_DIGITS; i++) due = due * 10 + (uint64_t)(digits[i] - '0');
    at = digits + TIME_DIGITS;
    if (!now) now = now_ns();
    count(c, now);
    if (total.deliveries > warm && c->pace == READING) note_latency(now, due);
    if (opt.order == ORDER_BODY) check_order(c, number_after(at, end));
    else if (opt.order != ORDER_NONE) check_order(c, cursor_before(start, marker));
    if ((size_t)(end - at) <= padding) {
      c->skip = padding - (end - at);
      c->carried = c->searched = 0;
      return;
    }
    at += padding;
    start = at;
  }
  const char *rest = end - (MARKER_LENGTH - 1);
  carry(c, start, end, rest > at ? rest : at);
}

void deliveries_read(struct connection *c, char *bytes, size_t length) {
  if (c->skip >= length) {
    c->skip -= length;
    return;
  }
  bytes += c->skip;
  length -= c->skip;
  c->skip = 0;
  char *start = bytes - c->carried;
  /* What is overwritten lies before this read's bytes or in padding that has been skipped. */
  memcpy(start, c->carry, c->carried);
  if (opt.ready_on && !c->ready && memmem(start, length + c->carried, opt.ready_on, strlen(opt.ready_on)))
    connection_is_ready(c);
  search(c, start, start + c->searched, bytes + length);
}
