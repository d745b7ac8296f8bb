/*
 * logline: see the header. One ring per thread that has logged, in a fixed table; the thread is the
 * producer, the thread that called logline_start the consumer.
 *
 *   direct    before start, after stop, after panic, and always in the thread that drains: one
 * write(2) per line ring      every other thread: claim, copy, publish; full or no slot left: the
 * line is dropped and counted
 *
 * All rings are made by logline_start, because an agent that logs its first line must not map
 * memory; they cost nothing until they are touched. A line keeps its own time, so that lines of two
 * threads that leave in another order can be sorted.
 *
 * It cannot fail: a line that cannot be written is dropped, and the number of dropped lines is the
 * next line.
 */
#include "core/logline.h"

#include "core/buf.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/spsc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* 64 shards (STORE_SHARDS_MAX), writer, keeper, and room for the pools to come. */
#define LOGLINE_SLOTS      80u
#define LOGLINE_RING_BYTES KIB(64)

/* A message of 1 KiB is a paragraph. Escaped for JSON it grows sixfold at most (\u001f), and the
 * frame around it is short. */
#define LOGLINE_MESSAGE_BYTES 1024u
#define LOGLINE_EVENT_BYTES   64u
#define LOGLINE_LINE_BYTES    (6u * (LOGLINE_MESSAGE_BYTES + LOGLINE_EVENT_BYTES) + 256u)

/* Lines of one drain: more than the rings hold when all are full of ordinary lines; only a bound.
 */
#define LOGLINE_DRAIN_LINES 65536u

/* A site may speak ten times at once, then once a second; after ten silent seconds it has its ten
 * lines again. */
#define LOGLINE_BURST    10u
#define LOGLINE_PAUSE_NS NS_S
#define LOGLINE_REST_NS  (10 * NS_S)

#define LOGLINE_FRAME 1u

_Static_assert(LOGLINE_LINE_BYTES < LOGLINE_RING_BYTES / 4,
               "a ring holds several of the longest lines");

struct logline_slot {
    struct spsc ring;
    CACHE_LINE_ALIGNED _Atomic uint64_t dropped; /* written by the ring's thread only */
    uint64_t dropped_reported;                   /* the drainer's */
};

enum logline_mode {
    LOGLINE_DIRECT = 0,
    LOGLINE_RINGS = 1,
};

static struct logline_slot logline_slots[LOGLINE_SLOTS];
static unsigned logline_slot_count; /* rings that exist; written by start and stop, while no other
                                       thread runs */
static _Atomic unsigned logline_slot_next;
static _Atomic uint64_t logline_slotless; /* lines dropped by threads that got no ring */
static uint64_t logline_slotless_reported;
static _Atomic unsigned
    logline_era; /* counted up by start, so that a slot of an earlier run is not used again */
static _Atomic int logline_mode;
static _Atomic int logline_level_min = LOGLINE_INFO;
static _Atomic bool logline_is_json;

static _Thread_local unsigned logline_my_era;
static _Thread_local unsigned logline_my_slot;
static _Thread_local bool logline_is_drainer;

void logline_configure(enum logline_level level_min, bool is_json)
{
    /* relaxed: a thread that still sees the old values writes one line more, or in the old form. */
    atomic_store_explicit(&logline_level_min, (int)level_min, memory_order_relaxed);
    atomic_store_explicit(&logline_is_json, is_json, memory_order_relaxed);
}

void logline_set_level(enum logline_level level_min)
{
    /* relaxed: as in logline_configure. */
    atomic_store_explicit(&logline_level_min, (int)level_min, memory_order_relaxed);
}

bool logline_is_enabled(enum logline_level level)
{
    /* relaxed: as in logline_configure. */
    return (int)level >= atomic_load_explicit(&logline_level_min, memory_order_relaxed);
}

/* True when the site may speak now; *held_back is what it did not say since it last did. Relaxed
 * throughout: two threads that race here cost one line more or less, and no word is torn. */
static bool logline_site_admits(struct logline_site *site, uint64_t now_ns, uint32_t *held_back)
{
    uint64_t last_ns = atomic_load_explicit(&site->window_start_ns, memory_order_relaxed);
    uint64_t silent_ns = now_ns > last_ns ? now_ns - last_ns : 0;
    if (silent_ns >= LOGLINE_REST_NS) {
        atomic_store_explicit(&site->in_window, 0, memory_order_relaxed);
    }
    uint32_t spoken = atomic_load_explicit(&site->in_window, memory_order_relaxed);
    if (spoken >= LOGLINE_BURST && silent_ns < LOGLINE_PAUSE_NS) {
        atomic_fetch_add_explicit(&site->held_back, 1, memory_order_relaxed);
        return false;
    }
    /* The exchange lets one of several threads through when the pause is over. */
    if (!atomic_compare_exchange_strong_explicit(&site->window_start_ns, &last_ns, now_ns,
                                                 memory_order_relaxed, memory_order_relaxed) &&
        spoken >= LOGLINE_BURST) {
        atomic_fetch_add_explicit(&site->held_back, 1, memory_order_relaxed);
        return false;
    }
    if (spoken < LOGLINE_BURST) {
        atomic_fetch_add_explicit(&site->in_window, 1, memory_order_relaxed);
    }
    *held_back = atomic_exchange_explicit(&site->held_back, 0, memory_order_relaxed);
    return true;
}

static const char *logline_level_name(enum logline_level level, bool is_json)
{
    switch (level) {
    case LOGLINE_DEBUG:
        return is_json ? "debug" : "DEBUG";
    case LOGLINE_INFO:
        return is_json ? "info" : "INFO ";
    case LOGLINE_WARNING:
        return is_json ? "warning" : "WARN ";
    case LOGLINE_ERROR:
        return is_json ? "error" : "ERROR";
    }
    return "?";
}

/* A line is one line, whatever a client managed to get into a message: controls would break it or
 * drive the terminal. */
static void logline_put_plain(struct buf *line, const char *text)
{
    for (size_t i = 0; text[i] != '\0'; i++) { /* bounded by LOGLINE_MESSAGE_BYTES */
        unsigned char c = (unsigned char)text[i];
        buf_put_char(line, c < 0x20 || c == 0x7f ? ' ' : text[i]);
    }
}

static void logline_put_member(struct buf *line, const char *name, const char *text,
                               size_t bytes_max)
{
    buf_printf(line, "\"%s\":", name);
    buf_put_json_string(line, (struct slice){(const uint8_t *)text, strnlen(text, bytes_max)});
}

struct logline_event {
    int64_t real_ns;
    enum logline_level level;
    const char *name;
    const char *message;
    uint32_t held_back;
};

static void logline_put(struct buf *line, const struct logline_event *event, bool is_json)
{
    char when[CLOCK_RFC3339_BYTES];
    size_t when_bytes = clock_rfc3339(when, event->real_ns, 3);
    const char *level = logline_level_name(event->level, is_json);
    if (is_json) {
        buf_printf(line, "{\"time\":\"%.*s\",\"level\":\"%s\",", (int)when_bytes, when, level);
        logline_put_member(line, "event", event->name, LOGLINE_EVENT_BYTES);
        buf_put_char(line, ',');
        logline_put_member(line, "message", event->message, LOGLINE_MESSAGE_BYTES);
        if (event->held_back > 0) {
            buf_printf(line, ",\"held_back\":%u", event->held_back);
        }
        buf_put_text(line, "}\n");
    } else {
        buf_printf(line, "%.*s %s %.*s ", (int)when_bytes, when, level, (int)LOGLINE_EVENT_BYTES,
                   event->name);
        logline_put_plain(line, event->message);
        if (event->held_back > 0) {
            buf_printf(line, " (%u like it held back)", event->held_back);
        }
        buf_put_char(line, '\n');
    }
    ASSERT(!line->is_truncated); /* LOGLINE_LINE_BYTES is the proof */
}

/* Writes all of it or gives up: stderr that is closed, full and non-blocking, or a broken pipe, is
 * no reason to stop. */
static bool logline_write_all(const uint8_t *data, size_t bytes)
{
    size_t done = 0;
    for (unsigned tries = 0; done < bytes && tries < 64; tries++) {
        ssize_t n = write(STDERR_FILENO, data + done, bytes - done);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return done == bytes;
}

/* The slot of the calling thread in this run, or NULL when the table is full. */
static struct logline_slot *logline_slot_of_thread(void)
{
    /* relaxed: start happened before this thread could log in this run. */
    unsigned era = atomic_load_explicit(&logline_era, memory_order_relaxed);
    if (logline_my_era != era) {
        logline_my_era = era;
        /* relaxed: only the number has to be unique. */
        logline_my_slot = atomic_fetch_add_explicit(&logline_slot_next, 1, memory_order_relaxed);
    }
    return logline_my_slot < logline_slot_count ? &logline_slots[logline_my_slot] : NULL;
}

static void logline_queue(const struct buf *line)
{
    struct logline_slot *slot = logline_slot_of_thread();
    if (slot == NULL) {
        /* relaxed: a statistic. */
        atomic_fetch_add_explicit(&logline_slotless, 1, memory_order_relaxed);
        return;
    }
    uint8_t *to = spsc_claim(&slot->ring, line->bytes);
    if (to == NULL) {
        /* relaxed: only this thread writes it, and the drainer needs no order with anything else.
         */
        uint64_t dropped = atomic_load_explicit(&slot->dropped, memory_order_relaxed);
        atomic_store_explicit(&slot->dropped, dropped + 1, memory_order_relaxed);
        return;
    }
    memcpy(to, line->data, line->bytes);
    (void)spsc_commit(&slot->ring, LOGLINE_FRAME, line->bytes);
    (void)spsc_publish(&slot->ring);
}

/* In the thread that drains what waits goes first, so that its own lines do not overtake the
 * others'. */
static void logline_deliver(const struct buf *line)
{
    /* relaxed: start and stop happen while no other thread logs; after a panic late is as good as
     * never. */
    bool has_rings = atomic_load_explicit(&logline_mode, memory_order_relaxed) == LOGLINE_RINGS;
    if (has_rings && !logline_is_drainer) {
        logline_queue(line);
        return;
    }
    if (has_rings) {
        (void)logline_drain();
    }
    (void)logline_write_all(line->data, line->bytes);
}

void logline_write(struct logline_site *site, enum logline_level level, const char *event,
                   const char *format, ...)
{
    int errno_before =
        errno; /* a log line between a call and the reading of errno changes nothing */
    uint32_t held_back = 0;
    if (site != NULL && !logline_site_admits(site, clock_mono_ns(), &held_back)) {
        return;
    }
    char message[LOGLINE_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (n < 0) {
        message[0] = '\0';
    } else if ((size_t)n >= sizeof message) {
        memcpy(message + sizeof message - 4, "...", 4);
    }
    uint8_t memory[LOGLINE_LINE_BYTES];
    struct buf line;
    buf_init(&line, memory, sizeof memory);
    struct logline_event parts = {.real_ns = clock_real_ns(),
                                  .level = level,
                                  .name = event,
                                  .message = message,
                                  .held_back = held_back};
    /* relaxed: as in logline_configure. */
    logline_put(&line, &parts, atomic_load_explicit(&logline_is_json, memory_order_relaxed));
    logline_deliver(&line);
    errno = errno_before;
}

/* Tells of the lines that found no room. No site: it is its own limit, one line per drain. */
static void logline_report_dropped(uint64_t count)
{
    char message[80];
    (void)snprintf(message, sizeof message,
                   "%llu log lines were dropped: nobody read them fast enough",
                   (unsigned long long)count);
    uint8_t memory[512];
    struct buf line;
    buf_init(&line, memory, sizeof memory);
    struct logline_event parts = {.real_ns = clock_real_ns(),
                                  .level = LOGLINE_WARNING,
                                  .name = "log_dropped",
                                  .message = message};
    logline_put(
        &line, &parts,
        atomic_load_explicit(&logline_is_json, memory_order_relaxed)); /* relaxed: as above */
    (void)logline_write_all(line.data, line.bytes);
}

static size_t logline_drain_slot(struct logline_slot *slot, size_t lines_max)
{
    size_t lines = 0;
    while (lines < lines_max) {
        const struct spsc_frame *frame = spsc_take(&slot->ring);
        if (frame == NULL) {
            break;
        }
        (void)logline_write_all(frame->payload, frame->bytes);
        lines++;
    }
    spsc_release(&slot->ring);
    return lines;
}

size_t logline_drain(void)
{
    size_t lines = 0;
    uint64_t dropped = 0;
    /* A slot beyond `used` has no producer yet; relaxed: a thread that takes one now is heard in
     * the next drain. */
    unsigned used = atomic_load_explicit(&logline_slot_next, memory_order_relaxed);
    for (unsigned i = 0; i < logline_slot_count && i < used; i++) {
        struct logline_slot *slot = &logline_slots[i];
        lines += logline_drain_slot(slot, LOGLINE_DRAIN_LINES - lines);
        uint64_t now =
            atomic_load_explicit(&slot->dropped, memory_order_relaxed); /* relaxed: a statistic */
        dropped += now - slot->dropped_reported;
        slot->dropped_reported = now;
    }
    uint64_t slotless =
        atomic_load_explicit(&logline_slotless, memory_order_relaxed); /* relaxed: a statistic */
    dropped += slotless - logline_slotless_reported;
    logline_slotless_reported = slotless;
    if (dropped > 0) {
        logline_report_dropped(dropped);
    }
    return lines;
}

void logline_start(void)
{
    ASSERT(logline_slot_count == 0);
    for (unsigned i = 0; i < LOGLINE_SLOTS; i++) {
        struct logline_slot *slot = &logline_slots[i];
        memset(slot, 0, sizeof *slot);
        if (spsc_init(&slot->ring, LOGLINE_RING_BYTES, 0, NULL) < 0) {
            break; /* threads beyond this one drop and count; UNTESTED: needs an address space that
                      is full */
        }
        logline_slot_count++;
    }
    logline_is_drainer = true;
    /* relaxed: threads are created after this, which orders everything. */
    atomic_store_explicit(&logline_slot_next, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&logline_era, 1, memory_order_relaxed);
    atomic_store_explicit(&logline_mode, LOGLINE_RINGS, memory_order_relaxed);
}

void logline_stop(void)
{
    ASSERT(logline_is_drainer);
    (void)logline_drain();
    /* relaxed: the other threads have ended. */
    atomic_store_explicit(&logline_mode, LOGLINE_DIRECT, memory_order_relaxed);
    for (unsigned i = 0; i < logline_slot_count; i++) {
        spsc_close(&logline_slots[i].ring);
    }
    logline_slot_count = 0;
    logline_is_drainer = false;
}

void logline_panic(void)
{
    if (logline_is_drainer) {
        (void)logline_drain();
    }
    /* relaxed: see logline_deliver. */
    atomic_store_explicit(&logline_mode, LOGLINE_DIRECT, memory_order_relaxed);
}
