#include "shard_fixture.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "core/clock.h"

void shard_init(struct shard_fixture *shard)
{
    *shard = (struct shard_fixture){
        .options =
            {
                .listen = {"127.0.0.1:0"},
                .listen_count = 1,
                .connections_max = 128,
                .pipeline_max = 1024,
                .limits = {.head_bytes_max = 16384,
                           .target_bytes_max = 8192,
                           .fields_max = 100,
                           .body_bytes_max = MIB(16)},
                .decode_ratio_max = 2000,
                .head_timeout_ns = 10 * NS_S,
                .body_timeout_ns = 10 * NS_S,
                .body_rate_min = 500,
                .idle_timeout_ns = 10 * NS_S,
                .linger_ns = 2 * NS_S,
                .send_timeout_ns = 10 * NS_S,
                .recv_buffers = 64,
                .recv_buffer_bytes = 16384,
                .arena_bytes = MIB(128),
            },
    };
}

static void shard_pass(struct shard_fixture *shard)
{
    uint64_t wait_ns = server_wait_ns(shard->server, clock_mono_ns());

    wait_ns = wait_ns < 2 * NS_MS ? wait_ns : 2 * NS_MS;
    assert_true(server_poll(shard->server, wait_ns, false) >= 0);
    if (shard->on_pass != NULL) {
        shard->on_pass(shard->callbacks.context);
    }
    server_tick(shard->server, clock_mono_ns());
    if (shard->is_draining) {
        server_drain(shard->server);
        shard->is_drained = server_is_drained(shard->server);
    }
    server_flush(shard->server);
    size_t used = server_arena_used(shard->server);
    shard->arena_used = used;
    if (used > shard->arena_most) {
        shard->arena_most = used;
    }
}

static void *shard_thread(void *context)
{
    struct shard_fixture *shard = context;
    struct err err = {0};

    if (server_open(&shard->server, &shard->options, &shard->callbacks, &err) < 0) {
        fprintf(stderr, "server_open: %s\n", err.text);
        shard->is_up = -1;
        return NULL;
    }
    shard->is_up = 1;
    while (!shard->is_stopping) {
        shard_pass(shard);
    }
    server_close(shard->server);
    return NULL;
}

void shard_up(struct shard_fixture *shard)
{
    shard->options.park = &shard->park;
    assert_int_equal(park_init(&shard->park, NULL), 0);
    assert_int_equal(pthread_create(&shard->thread, NULL, shard_thread, shard), 0);
    while (shard->is_up == 0) {
        usleep(200);
    }
    assert_int_equal(shard->is_up, 1);
}

void shard_down(struct shard_fixture *shard)
{
    shard->is_stopping = true;
    pthread_join(shard->thread, NULL);
    park_close(&shard->park);
}

int shard_connect(const struct shard_fixture *shard, int receive_bytes)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)server_port(shard->server, 0))};
    struct timeval limit = {.tv_sec = 8};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (receive_bytes > 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    }
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

bool shard_send(int fd, const void *data, size_t bytes)
{
    const char *text = data;
    size_t sent = 0;

    while (sent < bytes) {
        ssize_t n = send(fd, text + sent, bytes - sent, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        sent += (size_t)n;
    }
    return true;
}

void shard_reset(int fd)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
}
