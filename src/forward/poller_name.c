/*
 * poller_name: see poller_name.h. Edge N1: the word `state` hands the answer from the asking thread to the poller's, and the whole
 * struct to whichever of the two lets go of it last.
 *
 *   ASKING ── asked: DONE ── poller_name_close frees
 *          └─ poller_name_close: LEFT ── the asking thread frees
 */
#include "forward/poller_name.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"

enum {
    STATE_ASKING = 0,
    STATE_DONE,
    STATE_LEFT,
};

struct poller_name {
    _Atomic int state;
    int result; /* of getaddrinfo */
    struct addrinfo *addresses;
    char host[POLLER_NAME_HOST_MAX];
};

/* Threads that ask. Relaxed: it orders nothing, it only bounds. */
static _Atomic unsigned asking;

bool poller_name_is_needed(const char *host)
{
    uint8_t address[sizeof(struct in6_addr)];
    bool is_directory = host[0] == '/' || host[0] == '@' || host[0] == 0;
    return !is_directory && strchr(host, ',') == NULL && strlen(host) < POLLER_NAME_HOST_MAX &&
           inet_pton(AF_INET, host, address) != 1 && inet_pton(AF_INET6, host, address) != 1;
}

static void free_name(struct poller_name *name)
{
    if (name->addresses != NULL) {
        freeaddrinfo(name->addresses);
    }
    mem_free(name);
}

static void *ask(void *context)
{
    static const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct poller_name *name = context;
    name->result = getaddrinfo(name->host, NULL, &hints, &name->addresses);
    /* N1: release of the answer; acquire of nothing more than that it was given up. */
    if (atomic_exchange_explicit(&name->state, STATE_DONE, memory_order_acq_rel) == STATE_LEFT) {
        free_name(name);
    }
    atomic_fetch_sub_explicit(&asking, 1, memory_order_relaxed); /* relaxed: see above */
    return NULL;
}

static int start_thread(struct poller_name *name)
{
    pthread_t thread;
    pthread_attr_t attributes;
    int r = pthread_attr_init(&attributes);
    if (r != 0) {
        return -r; /* UNTESTED: no memory */
    }
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    r = pthread_create(&thread, &attributes, ask,
                       name); /* signals stay blocked, as in its parent */
    (void)pthread_attr_destroy(&attributes);
    return -r;
}

int poller_name_open(struct poller_name **name, const char *host, struct err *err)
{
    /* relaxed: only this thread adds, so the bound holds. */
    if (atomic_load_explicit(&asking, memory_order_relaxed) >= POLLER_NAMES_MAX) {
        return err_set(err, -EBUSY, "look up %s: the resolver does not answer", host);
    }
    struct poller_name *made = mem_alloc(sizeof *made);
    (void)snprintf(made->host, sizeof made->host, "%s", host);
    atomic_fetch_add_explicit(&asking, 1, memory_order_relaxed); /* relaxed: see above */
    int r = start_thread(made);
    if (r < 0) { /* UNTESTED: the system has no more threads */
        atomic_fetch_sub_explicit(&asking, 1, memory_order_relaxed); /* relaxed: see above */
        mem_free(made);
        return err_set(err, r, "look up %s: %s", host, err_name(r));
    }
    *name = made;
    return 0;
}

static unsigned put_addresses(const struct poller_name *name, struct buf *addresses)
{
    unsigned count = 0;
    for (const struct addrinfo *at = name->addresses; at != NULL && count < POLLER_ADDRESSES_MAX;
         at = at->ai_next) {
        char text[NI_MAXHOST];
        int r =
            getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
        if (r == 0) {
            buf_printf(addresses, "%s%s", count == 0 ? "" : ",", text);
            count++;
        }
    }
    buf_put_char(addresses, 0);
    return addresses->is_truncated ? 0 : count;
}

int poller_name_step(struct poller_name *name, struct buf *addresses, unsigned *count,
                     struct err *err)
{
    /* N1 (acquire end): the answer is there, and nobody else's. */
    if (atomic_load_explicit(&name->state, memory_order_acquire) == STATE_ASKING) {
        return 0;
    }
    if (name->result != 0) {
        return err_set(err, -ENOENT, "look up %s: %s", name->host, gai_strerror(name->result));
    }
    *count = put_addresses(name, addresses);
    return *count > 0 ? 1 : err_set(err, -ENOENT, "look up %s: no address", name->host);
}

void poller_name_close(struct poller_name *name)
{
    if (name == NULL) {
        return;
    }
    /* N1: acquire of the answer, which is freed; release of nothing but the struct itself. */
    if (atomic_exchange_explicit(&name->state, STATE_LEFT, memory_order_acq_rel) == STATE_DONE) {
        free_name(name);
    }
}
