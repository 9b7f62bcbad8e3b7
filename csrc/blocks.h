/* SPDX-License-Identifier: MIT
 *
 * What message_producer.c and message_consumer.c use of blocks.c.
 */
#ifndef RB_BLOCKS_H
#define RB_BLOCKS_H

#include "channel.h"

int rb_send_block(rb_channel *channel, const struct rb_payload *payload, uint64_t token, int kind,
		  int64_t patience_ns);
int64_t rb_send_block_part(rb_channel *channel, const struct rb_payload *payload, uint64_t done,
			   uint64_t token, int kind);
void rb_abandon_block(struct rb_producer *producer);
int rb_reserve_block(rb_channel *channel, uint64_t length, bool fits, void **payload);
uint64_t rb_reserved_block(const struct rb_producer *producer, uint64_t reservation);
void rb_publish_reserved(struct rb_producer *producer, uint64_t length, uint64_t token);
int rb_find_block(rb_channel *channel, const uint8_t *payload, rb_block *block);

#endif
