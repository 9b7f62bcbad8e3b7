/* SPDX-License-Identifier: MIT
 *
 * The functions of owned.c, memory.c and control.c for code that makes descriptors.
 */
#ifndef RB_OWNED_H
#define RB_OWNED_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ends.h"

void rb_owned_begin(void);
void rb_owned_end(void);
int rb_descriptor_move(int descriptor);
int rb_owned_take(rb_owned *owned, int descriptor);
void rb_use_owners(uintptr_t list);
int rb_owned_timer(rb_owned *owned);
int rb_owned_copy(rb_owned *owned, int fd);
int rb_socket_look(int fd, char *text, size_t length, rb_owned **owners, int count, int *came);

#endif
