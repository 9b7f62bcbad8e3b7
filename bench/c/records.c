/* SPDX-License-Identifier: MIT
 *
 * How many records a second the C functions move under the Python API, in batches, without Python.
 *
 *   records --driver CPU --device CPU [--ring BYTES] [--size BYTES] [--batch N] [--time NS]
 *
 * The driver copies batches of records into the ring; the device borrows as many at a time and
 * gives them back. Both wait as the Python layer does, adaptively.
 */
#include "sides.h"

#define MAX_POLL 100000

static uint64_t driver_cpu, device_cpu = 1, ring = 1 << 20, size = 64, batch = 1024;
static uint64_t time_ns = 300000000;

static void borrow_all(rb_channel *device)
{
	uint64_t done = 0;

	child_is_ready();
	for (;;) {
		/* Read this before the look. If it is set, all that was written is in the ring. */
		uint64_t all_sent = __atomic_load_n(&report->done, __ATOMIC_ACQUIRE);
		int64_t lent = rb_borrow(device, batch, -1);
		if (lent > 0) {
			rb_return(device, (uint64_t)lent);
			done += (uint64_t)lent;
		} else if (all_sent) {
			break;
		}
	}
	report->entries = done;
	report->ended = clock_ns();
}

static uint64_t write_until(rb_channel *driver, uint64_t over)
{
	char *records = calloc(batch, size);
	uint64_t written = 0;

	if (!records)
		die("calloc");
	while (clock_ns() < over) {
		for (uint64_t done = 0; done < batch;) {
			int64_t more = rb_write(driver, records + done * size, batch - done);
			if (more > 0)
				done += (uint64_t)more;
			else
				wait_for(driver, RB_SPACE, RB_POLL_ADAPTIVE);
		}
		written += batch;
	}
	free(records);
	return written;
}

int main(int argc, char **argv)
{
	const struct option options[] = {
		{"--driver", &driver_cpu},
		{"--device", &device_cpu},
		{"--ring", &ring},
		{"--size", &size},
		{"--batch", &batch},
		{"--time", &time_ns},
		{NULL, NULL},
	};
	(void)argc;
	parse(argv, options);
	if (!size || !batch)
		fail("--size and --batch are at least 1");
	begin(60);
	struct pair pair = open_pair_of(ring / size, size, 1, 0);
	set_policy(pair.driver, RB_POLL_ADAPTIVE, MAX_POLL, false);
	set_policy(pair.device, RB_POLL_ADAPTIVE, MAX_POLL, false);
	pid_t child = fork_to(device_cpu);
	if (!child) {
		borrow_all(pair.device);
		_exit(0);
	}
	pin_to(driver_cpu);
	await_child();
	uint64_t began = clock_ns();
	uint64_t written = write_until(pair.driver, began + time_ns);
	__atomic_store_n(&report->done, 1, __ATOMIC_RELEASE);
	join(child);
	if (report->entries != written)
		fail("records were lost");
	printf("{\"rate\": %.1f}\n", (double)written * 1e9 / (double)(report->ended - began));
	close_pair(&pair);
	return 0;
}
