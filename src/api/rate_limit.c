#include "api/rate_limit.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "core/mem.h"

/* Requests that count together, and when the newest of them came. */
struct rate_mark {
    uint32_t at_ms; /* compared by difference, and only within two windows */
    uint32_t count;
};

struct rate_client {
    struct rate_address address;
    uint32_t chain; /* next of the same bucket; places are index + 1, 0 ends a list */
    uint32_t newer;
    uint32_t older;
    uint32_t first; /* oldest mark; free-running */
    uint32_t marks_count;
    uint64_t last_ms; /* of the newest mark */
    uint64_t total;   /* sum of the marks */
    struct rate_mark marks[RATE_LIMIT_MARKS];
};

_Static_assert((RATE_LIMIT_MARKS & (RATE_LIMIT_MARKS - 1)) == 0, "marks are indexed by mask");
_Static_assert(RATE_LIMIT_MARKS >= RATE_LIMIT_WINDOW_MS / 1000 + 2,
               "marks of whole seconds cover a window that begins and ends within one");

struct rate_limit {
    pthread_mutex_t mutex; /* everything below */
    struct rate_client *clients;
    uint32_t *buckets; /* heads of chains */
    uint32_t capacity;
    uint32_t used; /* places ever taken are [0, used) */
    uint32_t newest;
    uint32_t oldest;
    uint64_t evicted;
    uint64_t seed[3]; /* so that nobody can choose addresses that meet in one chain */
};

static size_t clients_bytes(uint32_t capacity)
{
    return capacity * sizeof(struct rate_client);
}

static size_t buckets_bytes(uint32_t capacity)
{
    return capacity * sizeof(uint32_t);
}

int rate_limit_open(struct rate_limit **out, uint32_t addresses_max, struct err *err)
{
    ASSERT(is_power_of_two(addresses_max));
    struct rate_limit *limit = mem_alloc(sizeof *limit);
    limit->capacity = addresses_max;
    limit->clients = mem_map(clients_bytes(addresses_max));
    limit->buckets = mem_map(buckets_bytes(addresses_max));
    int r = pthread_mutex_init(&limit->mutex, NULL);
    ASSERT(r == 0);
    if (limit->clients == NULL || limit->buckets == NULL) { /* UNTESTED: needs a limit on memory. */
        rate_limit_close(limit);
        return err_set(err, -ENOMEM, "rate limit: no room for %u addresses", addresses_max);
    }
    ssize_t n = getrandom(limit->seed, sizeof limit->seed, 0);
    ASSERT(n == (ssize_t)sizeof limit->seed); /* so few are never cut short (getrandom(2)) */
    *out = limit;
    return 0;
}

void rate_limit_close(struct rate_limit *limit)
{
    if (limit == NULL) {
        return;
    }
    if (limit->clients != NULL) {
        mem_unmap(limit->clients, clients_bytes(limit->capacity));
    }
    if (limit->buckets != NULL) {
        mem_unmap(limit->buckets, buckets_bytes(limit->capacity));
    }
    pthread_mutex_destroy(&limit->mutex);
    mem_free(limit);
}

/* ---- places ---- */

static struct rate_client *client_at(struct rate_limit *limit, uint32_t place)
{
    ASSERT(place != 0);
    ASSERT(place <= limit->used);
    return &limit->clients[place - 1];
}

/* Both halves of the full product: every bit of either factor reaches every bit of the result. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint32_t *bucket_of(struct rate_limit *limit, const struct rate_address *address)
{
    uint64_t words[2];
    memcpy(words, address->bytes, sizeof words);
    uint64_t hash = fold(words[0] ^ limit->seed[0], words[1] ^ limit->seed[1]);
    hash = fold(hash ^ limit->seed[2], UINT64_C(0x9e3779b97f4a7c15));
    return &limit->buckets[hash & (limit->capacity - 1)];
}

static uint32_t client_find(struct rate_limit *limit, const struct rate_address *address)
{
    uint32_t place = *bucket_of(limit, address);
    /* Bounded by the chain: one or two of as many buckets as places. */
    while (place != 0 && memcmp(&client_at(limit, place)->address, address, sizeof *address) != 0) {
        place = client_at(limit, place)->chain;
    }
    return place;
}

static void client_unchain(struct rate_limit *limit, uint32_t place)
{
    uint32_t *link = bucket_of(limit, &client_at(limit, place)->address);
    while (*link != place) { /* bounded by the chain, which holds it */
        link = &client_at(limit, *link)->chain;
    }
    *link = client_at(limit, place)->chain;
}

static void client_unlink(struct rate_limit *limit, uint32_t place)
{
    const struct rate_client *client = client_at(limit, place);
    if (client->newer != 0) {
        client_at(limit, client->newer)->older = client->older;
    } else {
        limit->newest = client->older;
    }
    if (client->older != 0) {
        client_at(limit, client->older)->newer = client->newer;
    } else {
        limit->oldest = client->newer;
    }
}

static void client_link_newest(struct rate_limit *limit, uint32_t place)
{
    struct rate_client *client = client_at(limit, place);
    client->newer = 0;
    client->older = limit->newest;
    if (limit->newest != 0) {
        client_at(limit, limit->newest)->newer = place;
    } else {
        limit->oldest = place;
    }
    limit->newest = place;
}

/* A place that nobody else has: a fresh one, or that of who was silent for longest. */
static uint32_t client_place(struct rate_limit *limit, uint64_t now_ms)
{
    if (limit->used < limit->capacity) {
        return ++limit->used;
    }
    uint32_t place = limit->oldest;
    if (client_at(limit, place)->last_ms + RATE_LIMIT_WINDOW_MS > now_ms) {
        limit->evicted++;
    }
    client_unchain(limit, place);
    client_unlink(limit, place);
    return place;
}

static uint32_t client_add(struct rate_limit *limit, const struct rate_address *address,
                           uint64_t now_ms)
{
    uint32_t place = client_place(limit, now_ms);
    uint32_t *bucket = bucket_of(limit, address);
    struct rate_client *client = client_at(limit, place);
    client->address = *address;
    client->chain = *bucket;
    client->first = client->marks_count = 0;
    client->total = 0;
    client->last_ms = now_ms;
    *bucket = place;
    client_link_newest(limit, place);
    return place;
}

/* ---- marks ---- */

static struct rate_mark *mark_at(struct rate_client *client, uint32_t index)
{
    return &client->marks[(client->first + index) & (RATE_LIMIT_MARKS - 1)];
}

/* Forgets what is a window old. */
static void marks_expire(struct rate_client *client, uint64_t now_ms)
{
    if (now_ms - client->last_ms >= RATE_LIMIT_WINDOW_MS) {
        client->marks_count = 0;
        client->total = 0;
        return;
    }
    /* Bounded by the marks. The newest is less than a window old, so the oldest, which was no older
     * when the newest came, is less than two: differences of 32 bits tell. */
    while (client->marks_count != 0 &&
           (uint32_t)now_ms - mark_at(client, 0)->at_ms >= RATE_LIMIT_WINDOW_MS) {
        client->total -= mark_at(client, 0)->count;
        client->first++;
        client->marks_count--;
    }
}

/* Whether a request of now counts together with the newest mark: exactly one of the same
 * millisecond where every request can have a mark of its own, else one of the same second. A client
 * without a free mark (rpm was raised a moment ago) is counted for too long rather than not. */
static bool marks_join(const struct rate_client *client, uint64_t rpm, uint64_t now_ms)
{
    uint64_t grain_ms = rpm <= RATE_LIMIT_MARKS ? 1 : 1000;
    return client->marks_count == RATE_LIMIT_MARKS ||
           (client->marks_count != 0 && client->last_ms / grain_ms == now_ms / grain_ms);
}

static void marks_add(struct rate_client *client, uint64_t rpm, uint64_t now_ms)
{
    if (!marks_join(client, rpm, now_ms)) {
        *mark_at(client, client->marks_count) = (struct rate_mark){0};
        client->marks_count++;
    }
    struct rate_mark *mark = mark_at(client, client->marks_count - 1);
    mark->at_ms = (uint32_t)now_ms;
    mark->count++;
    client->total++;
    client->last_ms = now_ms;
}

/* Seconds, rounded up, until so many marks have expired that one more request fits. */
static uint32_t marks_wait_s(struct rate_client *client, uint64_t rpm, uint64_t now_ms)
{
    uint64_t left = client->total;
    uint32_t wait_ms = 0;
    for (uint32_t i = 0; i < client->marks_count && left >= rpm; i++) {
        left -= mark_at(client, i)->count;
        wait_ms = RATE_LIMIT_WINDOW_MS - ((uint32_t)now_ms - mark_at(client, i)->at_ms);
    }
    return wait_ms <= 1000 ? 1 : (wait_ms + 999) / 1000;
}

/* ---- the door ---- */

static struct rate_verdict client_take(struct rate_limit *limit, uint32_t place, uint64_t rpm,
                                       uint64_t now_ms)
{
    struct rate_client *client = client_at(limit, place);
    now_ms = u64_max(now_ms, client->last_ms);
    marks_expire(client, now_ms);
    /* Asking keeps the place, refused or not: else whoever has used up the limit would be the first
     * to be forgotten, and free again. */
    client_unlink(limit, place);
    client_link_newest(limit, place);
    if (client->total >= rpm) {
        return (struct rate_verdict){false, marks_wait_s(client, rpm, now_ms)};
    }
    marks_add(client, rpm, now_ms);
    return (struct rate_verdict){true, 0};
}

struct rate_verdict rate_limit_take(struct rate_limit *limit, struct rate_address address,
                                    uint64_t rpm, uint64_t now_ns)
{
    ASSERT(rpm != 0);
    uint64_t now_ms = now_ns / NS_MS;
    pthread_mutex_lock(&limit->mutex);
    uint32_t place = client_find(limit, &address);
    if (place == 0) {
        place = client_add(limit, &address, now_ms);
    }
    struct rate_verdict verdict = client_take(limit, place, rpm, now_ms);
    pthread_mutex_unlock(&limit->mutex);
    return verdict;
}

struct rate_counts rate_limit_counts(struct rate_limit *limit)
{
    pthread_mutex_lock(&limit->mutex);
    struct rate_counts counts = {limit->used, limit->evicted};
    pthread_mutex_unlock(&limit->mutex);
    return counts;
}

struct rate_address rate_limit_address(const struct sockaddr_storage *peer)
{
    struct rate_address address = {{0}};
    if (peer->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, peer, sizeof in6);
        memcpy(address.bytes, &in6.sin6_addr, sizeof address.bytes);
    } else if (peer->ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, peer, sizeof in);
        address.bytes[10] = address.bytes[11] = 0xff;
        memcpy(address.bytes + 12, &in.sin_addr, 4);
    }
    return address;
}
