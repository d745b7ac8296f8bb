/*
 * shard_fixture: a server of net with a thread that runs it (poll, the test's own pass, tick, flush),
 * and a client's socket, for tests over loopback. The test fills options and callbacks before
 * shard_up; on_pass runs in the shard's thread once per pass.
 */
#ifndef TESTS_SHARD_FIXTURE_H
#define TESTS_SHARD_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "core/park.h"
#include "net/server.h"

struct shard_fixture {
    struct server_options options;
    struct server_callbacks callbacks;
    void (*on_pass)(void *context); /* callbacks.context; may be NULL */
    struct server *server;
    struct park park;
    pthread_t thread;
    _Atomic int is_up; /* 1 up, -1 failed */
    _Atomic bool is_stopping;
    _Atomic bool is_draining;
    _Atomic bool is_drained;
    _Atomic size_t arena_used;
    _Atomic size_t arena_most;
};

/* Generous options; the test changes what it is about. */
void shard_init(struct shard_fixture *shard);
void shard_up(struct shard_fixture *shard);
void shard_down(struct shard_fixture *shard);

#define SHARD_STAT(shard, name) (atomic_load(&server_stats((shard)->server)->name))

/* Waits for a condition of the other thread, at most 5 s. */
#define SHARD_EVENTUALLY(condition)                                                                \
    do {                                                                                           \
        for (int tries = 0; tries < 5000 && !(condition); tries++) {                               \
            usleep(1000);                                                                          \
        }                                                                                          \
        assert_true(condition);                                                                    \
    } while (0)

/* A connected socket with time limits of 8 s; receive_bytes > 0: its receive buffer. */
int shard_connect(const struct shard_fixture *shard, int receive_bytes);
/* False: the peer does not take it. */
bool shard_send(int fd, const void *data, size_t bytes);
/* Closes it with a reset. */
void shard_reset(int fd);

#endif
