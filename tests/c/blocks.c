/* SPDX-License-Identifier: MIT
 *
 * Large payloads by reference, in C.
 *
 *   blocks twice       a block that is returned twice, or after it was lent again, or that was
 * never lent, is not lent to two at once blocks threads N   a thread sends N messages; a second one
 * takes them, and three others return their blocks in any order, all of them asleep now and then
 *
 * Exits with 0 when all is well, and prints how many messages went by reference, and the sleeps.
 */
#include "pair.h"

#include "life.h"

#define PAGE 4096ULL
#define POOL (8 * PAGE)
#define HOLDERS 3

static struct pair pair;
static rb_channel *sender, *receiver;

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "FAILED: %s\n", what);
	exit(1);
}

static int send_pages(uint64_t pages, uint8_t fill)
{
	static uint8_t payload[POOL];

	memset(payload, fill, pages * PAGE);
	return rb_send(sender, &(struct rb_payload){payload, pages * PAGE, NULL}, 0, 0);
}

static rb_block take_block(void)
{
	check(!rb_peek(receiver, 0), "a message has arrived");
	check(receiver->consumer.frame.flags == RB_FLAG_BLOCK, "in a block");
	rb_block block = receiver->consumer.frame.block;
	rb_skip(receiver);
	rb_give_back(receiver);
	return block;
}

static bool is_full_of(const rb_block *block, uint8_t fill)
{
	for (uint64_t i = 0; i < block->length; i++)
		if (block->start[i] != fill)
			return false;
	return true;
}

static void twice(void)
{
	rb_block first, second, old, never = {NULL, 0, 7, 9};

	rb_channel_blocks(sender, POOL, PAGE, false);
	check(!send_pages(4, 1) && !send_pages(4, 2), "the pool has two blocks");
	first = take_block();
	second = take_block();
	rb_block_return(receiver, &never);
	check(send_pages(4, 3) == -EAGAIN, "both are lent");
	rb_block_return(receiver, &first);
	rb_block_return(receiver, &first);
	check(!send_pages(4, 3), "the first has come back");
	check(send_pages(4, 4) == -EAGAIN, "once");
	old = first;
	first = take_block();
	check(first.start == old.start, "it is the same memory");
	rb_block_return(receiver, &old);
	check(send_pages(4, 4) == -EAGAIN, "an old return counts for nothing");
	check(is_full_of(&first, 3) && is_full_of(&second, 2), "both are as they were");
	rb_block_return(receiver, &second);
	rb_block_return(receiver, &old);
	check(!send_pages(4, 5), "the second has come back");
	second = take_block();
	rb_block_return(receiver, &first);
	rb_block_return(receiver, &old);
	rb_block_return(receiver, &second);
	/* Spoilt by `old`, the first one may stay away; more must not happen. */
	check(!send_pages(4, 6), "a block is free");
	first = take_block();
	check(is_full_of(&first, 6), "it is whole");
	/* More lendings than a byte counts. */
	rb_block_return(receiver, &first);
	for (int i = 0; i < 1000; i++) {
		check(!send_pages(4, (uint8_t)i), "a block is free");
		first = take_block();
		check(is_full_of(&first, (uint8_t)i), "it is whole");
		rb_block_return(receiver, &first);
	}
	check(rb_producer_valid(&sender->producer) && rb_consumer_valid(&receiver->consumer),
	      "the rings are as they should be");
}

/* ---- threads ---- */

/* Blocks on their way to the holders. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	rb_block blocks[2 * RB_BLOCKS];
	unsigned count;
	bool over;
} held = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static unsigned long messages;

static void wait_for(rb_channel *channel, int want)
{
	int ready = rb_wait_poll(channel, want, -1);

	if (!ready)
		ready = rb_wait_sleep(channel, want, -1, -1);
	check(ready > 0, "a wait ends with something to do");
}

static void *send_all(void *unused)
{
	unsigned chance = 1;

	for (unsigned long i = 0; i < messages; i++) {
		uint64_t pages = 1 + (uint64_t)rand_r(&chance) % 8;
		while (send_pages(pages, (uint8_t)i) == -EAGAIN)
			wait_for(sender, RB_SPACE);
	}
	return unused;
}

static void *take_all(void *unused)
{
	for (unsigned long i = 0; i < messages; i++) {
		while (rb_peek(receiver, 0) == -EAGAIN)
			wait_for(receiver, RB_DATA);
		rb_block block = take_block();
		check(block.start[0] == (uint8_t)i, "in order");
		pthread_mutex_lock(&held.lock);
		held.blocks[held.count++] = block;
		pthread_cond_signal(&held.changed);
		pthread_mutex_unlock(&held.lock);
	}
	pthread_mutex_lock(&held.lock);
	held.over = true;
	pthread_cond_broadcast(&held.changed);
	pthread_mutex_unlock(&held.lock);
	return unused;
}

static void *return_some(void *unused)
{
	unsigned chance = 2;

	for (;;) {
		pthread_mutex_lock(&held.lock);
		while (!held.count && !held.over)
			pthread_cond_wait(&held.changed, &held.lock);
		if (!held.count) {
			pthread_mutex_unlock(&held.lock);
			return unused;
		}
		unsigned which = (unsigned)rand_r(&chance) % held.count;
		rb_block block = held.blocks[which];
		held.blocks[which] = held.blocks[--held.count];
		pthread_mutex_unlock(&held.lock);
		check(is_full_of(&block, block.start[0]), "a block is whole");
		if (rand_r(&chance) % 8 == 0)
			usleep((unsigned)rand_r(&chance) % 300);
		rb_block_return(receiver, &block);
	}
}

/* ThreadSanitizer knows memory by its address, so both sides have to use one mapping of the pool.
 */
static void share_pool(void)
{
	struct rb_area *theirs = &receiver->consumer.their_pool;

	check(!send_pages(1, 0), "the pool is made");
	rb_block block = take_block();
	rb_block_return(receiver, &block);
	munmap(theirs->start, theirs->bytes);
	theirs->start = sender->producer.pool.start;
}

static void threads(void)
{
	pthread_t all[2 + HOLDERS];
	void *(*work[2 + HOLDERS])(void *) = {send_all, take_all, return_some, return_some,
					      return_some};

	rb_channel_blocks(sender, POOL, PAGE, false);
	share_mapping(&pair);
	share_pool();
	for (int i = 0; i < 2 + HOLDERS; i++)
		check(!pthread_create(&all[i], NULL, work[i], NULL), "a thread begins");
	for (int i = 0; i < 2 + HOLDERS; i++)
		pthread_join(all[i], NULL);
	check(!send_pages(8, 9), "all blocks have come back");
	rb_block block = take_block();
	rb_block_return(receiver, &block);
	receiver->consumer.their_pool.start = NULL;
	printf("messages %llu sleeps %llu\n",
	       (unsigned long long)rb_load_relaxed(&sender->producer.mine->blocks_sent),
	       (unsigned long long)rb_load_relaxed(&sender->producer.mine->producer.sleeps));
}

int main(int argc, char **argv)
{
	pair = open_pair(65536, UINT64_MAX - 20);
	sender = pair.driver;
	receiver = pair.device;
	if (argc == 3 && !strcmp(argv[1], "threads")) {
		messages = strtoul(argv[2], NULL, 10);
		rb_channel_policy(sender, RB_POLL_NEVER, 0, RB_SHARE_ALL, 0);
		threads();
	} else {
		twice();
	}
	close_pair(&pair);
	return 0;
}
