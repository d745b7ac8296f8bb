/*
 * node: who owns a data directory: a ULID made once (file "node": its text and a line feed), and a
 * lock that one living process holds (file "lock": flock, with the holder's PID and host as two
 * lines for the loser's message).
 *
 * The flock dies with its process, so a stale lock file is simply taken over. On a real directory
 * only: a simulated disk has nobody to share with.
 */
#ifndef STORE_NODE_H
#define STORE_NODE_H

#include "core/base.h"
#include "core/err.h"
#include "core/ulid.h"
#include "store/file_io.h"

#define NODE_FILE "node"
#define NODE_LOCK "lock"

struct node_lock {
    int fd; /* -1: not held */
};

/* -EBUSY names the holder. */
int node_lock_take(struct node_lock *lock, const char *data_dir, struct err *err) MUST_USE;
void node_lock_give(struct node_lock *lock);
/* Reads the node's name. 0; -ENOENT: none yet; ERR_CORRUPT: not a ULID. */
int node_read(struct ulid *node, struct file_io *io, struct err *err) MUST_USE;
/* Makes it durable: temporary file, sync, rename, sync of the directory. */
int node_write(const struct ulid *node, struct file_io *io, struct err *err) MUST_USE;

#endif
