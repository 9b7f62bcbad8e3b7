/* SPDX-License-Identifier: MIT
 *
 * boost's lock-free queue for one producer and one consumer, between two processes. Its capacity
 * is known at compile time, so it holds no pointers and may lie in shared memory.
 */
#include <boost/lockfree/spsc_queue.hpp>
#include <ctime>
#include <new>

#include "queues.h"

namespace
{
template <uint64_t Size> struct element {
	uint64_t words[Size / 8];
};

template <uint64_t Size>
using queue = boost::lockfree::spsc_queue<element<Size>,
					  boost::lockfree::capacity<QUEUE_BYTES / Size - 1>>;

uint64_t now_ns()
{
	timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return uint64_t(now.tv_sec) * 1000000000 + uint64_t(now.tv_nsec);
}

template <uint64_t Size> uint64_t send_until(void *memory, uint64_t over_ns)
{
	auto &to = *static_cast<queue<Size> *>(memory);
	element<Size> one = {};
	uint64_t sent = 0;

	while (now_ns() < over_ns) {
		for (int i = 0; i < QUEUE_STEP; i++) {
			one.words[0] = sent++;
			while (!to.push(one))
				;
		}
	}
	return sent;
}

template <uint64_t Size> uint64_t take_all(void *memory, const uint64_t *done, uint64_t *wrong)
{
	auto &from = *static_cast<queue<Size> *>(memory);
	element<Size> one;
	uint64_t taken = 0;

	for (;;) {
		/* Read this before the look. If it is set, all that was sent is in the queue. */
		uint64_t all_sent = __atomic_load_n(done, __ATOMIC_ACQUIRE);
		if (from.pop(one))
			*wrong += one.words[0] != taken++;
		else if (all_sent)
			return taken;
	}
}
} // namespace

uint64_t boost_memory(uint64_t size)
{
	return size == 8 ? sizeof(queue<8>) : sizeof(queue<64>);
}

void boost_make(void *memory, uint64_t size)
{
	if (size == 8)
		new (memory) queue<8>;
	else
		new (memory) queue<64>;
}

uint64_t boost_send_until(void *memory, uint64_t size, uint64_t over_ns)
{
	return size == 8 ? send_until<8>(memory, over_ns) : send_until<64>(memory, over_ns);
}

uint64_t boost_take_all(void *memory, uint64_t size, const uint64_t *done, uint64_t *wrong)
{
	return size == 8 ? take_all<8>(memory, done, wrong) : take_all<64>(memory, done, wrong);
}
