/*
 * alerts: says when room runs out: the share of store.retention_bytes that the log takes, and the share of the
 * file system that is in use, each against the levels of store.alert_levels. Crossing a level upwards, and
 * falling below it again by ALERT_HYSTERESIS percent points (a level not above that: by half of it), is a log line, a count and (store.alert_webhook)
 * one POST:
 *
 *   {"event":"disk_usage","subject":"log"|"disk","state":"above"|"below","level":90,"percent":91.4,
 *    "used_bytes":n,"limit_bytes":n,"node":"<ULID>","host":"...","time":"<RFC 3339>"}
 *
 * Owned by the main thread; looks once a second; the percentages are readable by anyone.
 */
#ifndef API_ALERTS_H
#define API_ALERTS_H

#include "api/webhook.h"
#include "core/config.h"
#include "core/ulid.h"

#define ALERT_LEVELS_MAX 8
#define ALERT_HYSTERESIS 2
#define ALERT_LOOK_NS    NS_S

enum alert_subject {
    ALERT_LOG = 0,
    ALERT_DISK,
    ALERT_SUBJECTS,
};

struct alerts {
    unsigned levels[ALERT_LEVELS_MAX]; /* ascending */
    unsigned level_count;
    unsigned reached[ALERT_SUBJECTS]; /* levels said to be crossed */
    uint64_t looked_at_ns;
    struct webhook *webhook; /* NULL: none */
    struct ulid node;
    _Atomic uint64_t percent_x100[ALERT_SUBJECTS]; /* relaxed: gauges */
    _Atomic uint64_t crossings;
};

/* "80,90,95": 1 to ALERT_LEVELS_MAX whole percents, ascending, 1..100; empty: none. -EINVAL. Pure. */
int alerts_parse_levels(const char *text, unsigned *levels, unsigned *count) MUST_USE;
/* config was checked by policy_open. */
int alerts_open(struct alerts *alerts, const struct config *config, struct ulid node,
                struct err *err) MUST_USE;
void alerts_close(struct alerts *alerts);

struct alert_usage {
    uint64_t used_bytes;
    uint64_t limit_bytes; /* 0: no limit, never an alert */
};
/* What now is. Looks at most every ALERT_LOOK_NS; usage is asked for only then. */
void alerts_look(struct alerts *alerts, uint64_t now_ns, const char *data_dir, uint64_t log_bytes,
                 uint64_t retention_bytes);
/* One subject; the rest of alerts_look without the clock and the file system. */
void alerts_judge(struct alerts *alerts, enum alert_subject subject, struct alert_usage usage);

#endif
