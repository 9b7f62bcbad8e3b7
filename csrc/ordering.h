/* SPDX-License-Identifier: MIT
 *
 * Every load, store and fence on shared memory, and on private memory that two threads of one side
 * share. This is the only file that names a memory order.
 */
#ifndef RB_ORDERING_H
#define RB_ORDERING_H

#include <stdbool.h>
#include <stdint.h>

static inline uint64_t rb_load_relaxed(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline uint64_t rb_load_acquire(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline uint8_t rb_load_acquire_byte(const uint8_t *byte)
{
	return __atomic_load_n(byte, __ATOMIC_ACQUIRE);
}

static inline void rb_store_release_byte(uint8_t *byte, uint8_t value)
{
	__atomic_store_n(byte, value, __ATOMIC_RELEASE);
}

static inline void rb_store_relaxed(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline void rb_store_release(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* The loads before it come before the stores and loads behind it. */
static inline void rb_fence_acquire(void)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
}

/* The loads and stores before it come before the stores behind it. */
static inline void rb_fence_release(void)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static inline void rb_add(uint64_t *word, uint64_t more)
{
	__atomic_fetch_add(word, more, __ATOMIC_RELAXED);
}

/* For a counter that only one thread of one process changes. The store is relaxed, so others may
 * read the counter at any time. */
static inline void rb_count(uint64_t *counter, uint64_t more)
{
	rb_store_relaxed(counter, *counter + more);
}

/* ---- for private memory that both threads of one side use ---- */

static inline int rb_load_relaxed_int(const int *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline int rb_load_acquire_int(const int *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void rb_store_relaxed_int(int *word, int value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline void rb_store_release_int(int *word, int value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline bool rb_load_relaxed_bool(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

static inline bool rb_load_acquire_bool(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static inline void rb_store_relaxed_bool(bool *flag, bool value)
{
	__atomic_store_n(flag, value, __ATOMIC_RELAXED);
}

/* True if this call changed it from 0; later calls change nothing. */
static inline bool rb_set_once_int(int *word, int value)
{
	int none = 0;

	return __atomic_compare_exchange_n(word, &none, value, false, __ATOMIC_RELAXED,
					   __ATOMIC_RELAXED);
}

/* For a flag in private memory that two threads of one side clear: true for the thread that did. */
static inline bool rb_clear(bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_RELAXED) &&
	       __atomic_exchange_n(flag, false, __ATOMIC_ACQ_REL);
}

static inline void rb_set(bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELEASE);
}

/* For a flag in private memory that one thread at a time may hold: true if this thread got it. */
static inline bool rb_flag_take(bool *flag)
{
	return !__atomic_exchange_n(flag, true, __ATOMIC_ACQUIRE);
}

static inline void rb_flag_give(bool *flag)
{
	__atomic_store_n(flag, false, __ATOMIC_RELEASE);
}

/* The same, but other threads can see who has it; 0 is nobody. */
static inline bool rb_place_take(uint64_t *place, uint64_t who)
{
	uint64_t nobody = 0;

	return __atomic_compare_exchange_n(place, &nobody, who, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

struct rb_reader;

static inline struct rb_reader *rb_load_acquire_reader(struct rb_reader *const *place)
{
	return __atomic_load_n(place, __ATOMIC_ACQUIRE);
}

static inline void rb_store_release_reader(struct rb_reader **place, struct rb_reader *reader)
{
	__atomic_store_n(place, reader, __ATOMIC_RELEASE);
}

static inline void rb_place_give(uint64_t *place)
{
	rb_store_release(place, 0);
}

/* ---- for both ---- */

/* Orders every earlier store before every later load. Neither x86 nor Arm does that by itself, and
 * pairs (B) and (D) depend on it. */
static inline void rb_fence_full(void)
{
#ifdef RB_LITMUS_WITHOUT_FENCES
	/* Only for tests/c/litmus.c, to show what the fence is for. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Fetches a cache line that will be written soon, while the CPU goes on. It has no other effect,
 * and any address will do. */
static inline void rb_prefetch_for_writing(const void *address)
{
#if defined(__x86_64__)
	/* On x86 the builtin fetches a copy for reading only. */
	__asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)address));
#else
	__builtin_prefetch(address, 1);
#endif
}

static inline void rb_prefetch(const void *address)
{
	__builtin_prefetch(address, 0);
}

/* Tells the CPU that this is a polling loop. */
static inline void rb_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("isb" ::: "memory");
#else
	__asm__ __volatile__("" ::: "memory");
#endif
}

#endif
