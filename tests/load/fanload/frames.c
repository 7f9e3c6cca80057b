/* WebSocket frames as a client reads and writes them: answers pings, notes close codes, speaks NATS where asked. */
#include <stdlib.h>
#include <string.h>

#include "fanload.h"

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10, LONGEST_SENT = 8192 };

void frame_send(struct connection *c, int opcode, const void *payload, size_t length) {
  uint8_t frame[LONGEST_SENT + 8];
  int head = 2;
  if (length > LONGEST_SENT) die("a message of %zu bytes is too long", length);
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (length < 126 ? length : 126);
  if (length >= 126) {
    frame[2] = length >> 8;
    frame[3] = length;
    head = 4;
  }
  uint32_t key = 0x1b2c3d4e ^ (uint32_t)c->index;
  uint8_t *mask = frame + head;
  memcpy(mask, &key, sizeof key);
  head += sizeof key;
  for (size_t i = 0; i < length; i++) frame[head + i] = ((const uint8_t *)payload)[i] ^ mask[i & 3];
  connection_send(c, frame, head + length);
}

static void frame_end(struct connection *c) {
  if (c->opcode == PING) return frame_send(c, PONG, c->head, c->head_length);
  if (c->opcode == CLOSE) {
    close_code_seen(c->head_length > 1 ? c->head[0] << 8 | c->head[1] : 1005);
    return connection_kill(c);
  }
  if (opt.mode != MODE_NATS || c->opcode > BINARY || c->head_length < 4) return;
  if (!memcmp(c->head, "PING", 4)) frame_send(c, BINARY, "PONG\r\n", 6);
  if (!memcmp(c->head, "PONG", 4)) connection_is_ready(c);
}

static size_t header_size(const struct connection *c) {
  if (c->header_length < 2) return 2;
  int length = c->header[1] & 127;
  return length < 126 ? 2 : length == 126 ? 4 : 10;
}

static uint64_t payload_length(const uint8_t *header) {
  uint64_t length = header[1] & 127;
  if (length < 126) return length;
  int bytes = length == 126 ? 2 : 8;
  length = 0;
  for (int i = 0; i < bytes; i++) length = length << 8 | header[2 + i];
  return length;
}

void frames_walk(struct connection *c, const uint8_t *bytes, size_t length) {
  while (length && c->state == OPEN) {
    if (!c->left) {
      while (length && c->header_length < header_size(c)) {
        c->header[c->header_length++] = *bytes++;
        length--;
      }
      if (c->header_length < header_size(c)) return;
      c->opcode = c->header[0] & 15;
      c->left = payload_length(c->header);
      c->header_length = c->head_length = 0;
      if (!c->left) {
        frame_end(c);
        continue;
      }
    }
    size_t take = length < c->left ? length : c->left;
    /* All of a control frame; of others no more than a NATS line's first word. */
    size_t wanted = c->opcode >= CLOSE ? sizeof c->head : 8;
    if (c->head_length < wanted) {
      size_t more = wanted - c->head_length < take ? wanted - c->head_length : take;
      memcpy(c->head + c->head_length, bytes, more);
      c->head_length += more;
    }
    bytes += take;
    length -= take;
    c->left -= take;
    if (!c->left && take) frame_end(c);
  }
}
