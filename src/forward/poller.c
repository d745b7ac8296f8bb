/*
 * poller: the agent of all pollers; see poller.h. A pass: take what the log said, step each poller, keep the cache fresh, tell the
 * counts, sleep until a socket, the log or a time calls.
 *
 * The counts are one picture per poller under a sequence lock whose every step is an atomic access (edges S4 and S5, as S2 and S3 in
 * sink_status.c): a shard that answers /metrics never waits for this thread.
 */
#include "forward/poller.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "forward/poller_find.h"
#include "forward/poller_one.h"
#include "store/lineage.h"
#include "store/store.h"

#define SLEEP_NS       (250 * NS_MS) /* so that the heartbeat stays fresh */
#define FIND_PASS_NS   (20 * NS_MS)
#define FIND_AGAIN_NS  NS_S
#define CACHE_MOVED_NS (10 * NS_S) /* a mark has moved */
#define CACHE_SAME_NS  (60 * NS_S) /* only the log has grown */
#define STOP_WAIT_NS   NS_S        /* for the log to tell of what is on its way to it */
#define PAGE_BYTES_MAX MIB(4)
#define COUNTS_WORDS   (sizeof(struct poller_counts) / 8)
#define READ_TRIES     64u

_Static_assert(sizeof(struct poller_counts) % 8 == 0, "a picture is copied as whole words");

struct counts_cell {
    CACHE_LINE_ALIGNED _Atomic uint64_t sequence; /* odd: being written */
    _Atomic uint64_t words[COUNTS_WORDS];
};

struct poller_set {
    struct poller_set_options options;
    struct poller_port port;
    struct park park;
    struct poller_shared shared;
    struct poller_one ones[CONFIG_POLLERS_MAX];
    struct poller_place
        places[CONFIG_POLLERS_MAX]; /* of the start, then of the cache's last write */
    struct poller_find find;
    bool is_found, has_said_damage, has_said_cache;
    uint64_t find_at_ns;
    uint64_t cache_at_ns; /* last write */
    uint64_t stop_at_ns;  /* when the stop was seen; 0: not yet */
    _Atomic bool must_stop;
    struct counts_cell cells[CONFIG_POLLERS_MAX];
};

/* ---- counts ---- */

static void tell_counts(struct poller_set *set, unsigned i)
{
    struct counts_cell *cell = &set->cells[i];
    uint64_t words[COUNTS_WORDS];
    memcpy(words, &set->ones[i].counts, sizeof words);
    /* relaxed: only this thread writes the sequence; the release of each word below carries the odd one. */
    uint64_t sequence = atomic_load_explicit(&cell->sequence, memory_order_relaxed);
    atomic_store_explicit(&cell->sequence, sequence + 1, memory_order_relaxed);
    for (size_t w = 0; w < COUNTS_WORDS; w++) {
        /* S5: who sees this word also sees the odd sequence before it. */
        atomic_store_explicit(&cell->words[w], words[w], memory_order_release);
    }
    /* S4: publishes the words. */
    atomic_store_explicit(&cell->sequence, sequence + 2, memory_order_release);
}

static bool try_counts(struct counts_cell *cell, uint64_t *words)
{
    /* S4 (acquire end): the words below are at least as new as this sequence. */
    uint64_t before = atomic_load_explicit(&cell->sequence, memory_order_acquire);
    for (size_t w = 0; w < COUNTS_WORDS; w++) {
        /* S5 (acquire end): a word of a later write brings that write's odd sequence with it. */
        words[w] = atomic_load_explicit(&cell->words[w], memory_order_acquire);
    }
    /* relaxed: ordered behind the acquire loads above. */
    uint64_t after = atomic_load_explicit(&cell->sequence, memory_order_relaxed);
    return before == after && (before & 1) == 0;
}

void poller_set_counts(struct poller_set *set, unsigned i, struct poller_counts *counts)
{
    uint64_t words[COUNTS_WORDS];
    ASSERT(i < set->options.poller_count);
    /* Bound: a picture is some 40 stores and there is one per pass; a writer that has lost its core in the middle gets ours. */
    for (unsigned tries = 1; !try_counts(&set->cells[i], words); tries++) {
        if (tries % READ_TRIES == 0) {
            (void)poll(NULL, 0, 1);
        }
    }
    memcpy(counts, words, sizeof words);
}

/* ---- life ---- */

static uint64_t seed_of(unsigned i)
{
    uint64_t seed = clock_mono_ns() + i;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        seed ^= (uint64_t)clock_real_ns() * UINT64_C(0x9e3779b97f4a7c15);
    }
    return seed;
}

static void open_places(struct poller_set *set)
{
    const struct poller_set_options *options = &set->options;
    for (unsigned i = 0; i < options->poller_count; i++) {
        memcpy(set->places[i].name, options->pollers[i].name, sizeof set->places[i].name);
    }
    int r = poller_cache_read(options->data_dir, lineage_current(store_lineage(options->store)),
                              set->places, options->poller_count);
    if (r == -EINVAL) {
        LOG(LOGLINE_WARNING, "poller",
            "%s/" POLLER_CACHE_FILE " is damaged or another node's: the log is read instead",
            options->data_dir);
    }
    struct scan_source source = {store_views(options->store), store_recent(options->store),
                                 &store_status(options->store)->durable_lsn};
    poller_find_begin(&set->find, &source, set->places, options->poller_count);
}

int poller_set_open(struct poller_set **out, const struct poller_set_options *options,
                    struct err *err)
{
    ASSERT(options->poller_count > 0);
    ASSERT(options->poller_count <= CONFIG_POLLERS_MAX);
    struct poller_set *set = mem_alloc(sizeof *set);
    set->options = *options;
    int r = park_init(&set->park, err);
    if (r < 0) {
        mem_free(set);
        return err_wrap(err, r, "open the pollers");
    }
    struct store_port *port = store_port(options->store, options->port_index);
    port->shard_park = &set->park;
    poller_port_init(&set->port, port);
    set->shared.port = &set->port;
    set->shared.status = store_status(options->store);
    set->shared.page_bytes = u64_min(options->max_body, PAGE_BYTES_MAX);
    buf_init(&set->shared.sql, mem_alloc(POLLER_SQL_BYTES), POLLER_SQL_BYTES);
    for (unsigned i = 0; i < options->poller_count; i++) {
        poller_one_init(&set->ones[i], &options->pollers[i], i, &set->shared, seed_of(i));
    }
    open_places(set);
    *out = set;
    return 0;
}

void poller_set_stop(struct poller_set *set)
{
    /* relaxed: orders nothing; the wake-up is its own barrier, and a pass later is soon enough. */
    atomic_store_explicit(&set->must_stop, true, memory_order_relaxed);
    (void)park_wake(&set->park, true);
}

void poller_set_close(struct poller_set *set)
{
    if (set == NULL) {
        return;
    }
    poller_find_end(&set->find);
    for (unsigned i = 0; i < set->options.poller_count; i++) {
        poller_one_free(&set->ones[i]);
    }
    poller_port_free(&set->port);
    mem_free(set->shared.sql.data);
    park_close(&set->park);
    mem_free(set);
}

/* ---- where to begin ---- */

static void begin_all(struct poller_set *set)
{
    poller_find_end(&set->find);
    set->is_found = true;
    for (unsigned i = 0; i < set->options.poller_count; i++) {
        poller_one_begin(&set->ones[i], &set->places[i]);
    }
}

/* A part of the search; a long log is read between other passes, so that a stop never waits for it. */
static uint64_t find_more(struct poller_set *set, uint64_t now_ns)
{
    struct err err = {0};
    uint64_t until_ns = now_ns + FIND_PASS_NS;
    if (now_ns < set->find_at_ns) {
        return set->find_at_ns;
    }
    do { /* bounded by time */
        int r = poller_find_step(&set->find, &err);
        if (r == 1) {
            begin_all(set);
        } else if (r == ERR_CORRUPT && !set->has_said_damage) {
            set->has_said_damage = true;
            LOG(LOGLINE_WARNING, "poller",
                "part of the log cannot be read: rows whose marks were there are fetched again: %s",
                err.text);
        } else if (r < 0 && r != ERR_CORRUPT) {
            LOG(LOGLINE_WARNING, "poller", "pollers wait for their marks in the log: %s", err.text);
            set->find_at_ns = now_ns + FIND_AGAIN_NS;
            return set->find_at_ns;
        }
    } while (!set->is_found && clock_mono_ns() < until_ns);
    return now_ns;
}

/* ---- the cache ---- */

static bool is_any_moved(const struct poller_set *set)
{
    for (unsigned i = 0; i < set->options.poller_count; i++) {
        if (set->places[i].mark_lsn != set->ones[i].place.mark_lsn) {
            return true;
        }
    }
    return false;
}

static void write_cache(struct poller_set *set, uint64_t now_ns)
{
    struct err err = {0};
    const struct poller_set_options *options = &set->options;
    /* W1: what is durable up to here and is a poller's has been told to it, unless something of it is on its way. */
    uint64_t durable_lsn =
        atomic_load_explicit(&set->shared.status->durable_lsn, memory_order_acquire);
    for (unsigned i = 0; i < options->poller_count; i++) {
        const struct poller_one *one = &set->ones[i];
        uint64_t as_of_lsn = one->state == POLLER_WAITING
                                 ? u64_max(set->places[i].as_of_lsn, one->place.mark_lsn)
                                 : durable_lsn;
        set->places[i] = one->place;
        set->places[i].as_of_lsn = as_of_lsn;
    }
    set->cache_at_ns = now_ns;
    int r = poller_cache_write(options->data_dir, lineage_current(store_lineage(options->store)),
                               set->places, options->poller_count, &err);
    if (r < 0 && !set->has_said_cache) {
        LOG(LOGLINE_WARNING, "poller", "%s; the next start reads more of the log", err.text);
    }
    set->has_said_cache = r < 0;
}

static void keep_cache(struct poller_set *set, uint64_t now_ns)
{
    uint64_t after_ns = is_any_moved(set) ? CACHE_MOVED_NS : CACHE_SAME_NS;
    if (set->cache_at_ns == 0 || now_ns - set->cache_at_ns >= after_ns) {
        write_cache(set, now_ns);
    }
}

/* ---- a pass ---- */

static void take_acks(struct poller_set *set, uint64_t now_ns)
{
    struct poller_ack acks[CONFIG_POLLERS_MAX];
    unsigned count = poller_port_take(&set->port, acks);
    for (unsigned i = 0; i < count; i++) {
        poller_one_on_ack(&set->ones[acks[i].who], &acks[i], now_ns);
    }
}

static bool is_stopping(const struct poller_set *set)
{
    /* relaxed: as in poller_set_stop. */
    return atomic_load_explicit(&set->must_stop, memory_order_relaxed);
}

/* Until what is in the ring is known to be durable, so that counts and cache are right; the log itself is right anyway. */
static bool is_stopped(struct poller_set *set, uint64_t now_ns)
{
    if (!is_stopping(set)) {
        return false;
    }
    if (set->stop_at_ns == 0) {
        set->stop_at_ns = now_ns;
    }
    if (set->port.pending_count != 0 && now_ns - set->stop_at_ns < STOP_WAIT_NS) {
        return false;
    }
    if (set->is_found) {
        write_cache(set, now_ns);
    }
    poller_find_end(&set->find); /* its views end with the store, which is closed before the set */
    return true;
}

static uint64_t step_all(struct poller_set *set, uint64_t now_ns)
{
    uint64_t due_ns = UINT64_MAX;
    if (set->stop_at_ns != 0) {
        return due_ns;
    }
    if (!set->is_found) {
        return find_more(set, now_ns);
    }
    for (unsigned i = 0; i < set->options.poller_count; i++) {
        due_ns = u64_min(due_ns, poller_one_step(&set->ones[i], now_ns));
    }
    keep_cache(set, now_ns);
    return due_ns;
}

static void sleep_until(struct poller_set *set, uint64_t due_ns, uint64_t now_ns)
{
    struct pollfd fds[1 + CONFIG_POLLERS_MAX];
    nfds_t count = 0;
    uint64_t ns = due_ns <= now_ns ? 0 : u64_min(due_ns - now_ns, SLEEP_NS);
    fds[count++] = (struct pollfd){.fd = set->park.fd, .events = POLLIN};
    for (unsigned i = 0; i < set->options.poller_count; i++) {
        short events = 0;
        int fd = poller_one_wait(&set->ones[i], &events);
        if (fd >= 0) {
            fds[count++] = (struct pollfd){.fd = fd, .events = events};
        }
    }
    park_prepare(&set->park, PARK_ANY);
    bool is_new_stop = is_stopping(set) && set->stop_at_ns == 0;
    if (poller_port_has_acks(&set->port) || is_new_stop) {
        ns = 0;
    }
    (void)poll(fds, count, (int)((ns + NS_MS - 1) / NS_MS));
    park_cancel(&set->park);
    if (fds[0].revents != 0) {
        park_drain(&set->park);
    }
}

int poller_set_duty(void *context)
{
    struct poller_set *set = context;
    ASSERT_ROLE(ROLE_POLLER);
    uint64_t now_ns = clock_mono_ns();
    take_acks(set, now_ns);
    if (is_stopped(set, now_ns)) {
        return 1;
    }
    uint64_t due_ns = step_all(set, now_ns);
    for (unsigned i = 0; i < set->options.poller_count; i++) {
        tell_counts(set, i);
    }
    sleep_until(set, due_ns, now_ns);
    return 0;
}
