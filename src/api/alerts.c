#include "api/alerts.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/logline.h"

int alerts_parse_levels(const char *text, unsigned *levels, unsigned *count)
{
    unsigned last = 0;
    *count = 0;
    for (const char *c = text; *c != 0;) {
        unsigned level = 0;
        unsigned digits = 0;
        for (; *c >= '0' && *c <= '9' && digits < 4; c++, digits++) {
            level = level * 10 + (unsigned)(*c - '0');
        }
        bool is_end = *c == 0;
        if (digits == 0 || level <= last || level > 100 || *count == ALERT_LEVELS_MAX ||
            (!is_end && *c != ',') || (*c == ',' && c[1] == 0)) {
            return -EINVAL;
        }
        levels[(*count)++] = level;
        last = level;
        c += is_end ? 0 : 1;
    }
    return 0;
}

int alerts_open(struct alerts *alerts, const struct config *config, struct ulid node,
                struct err *err)
{
    memset(alerts, 0, sizeof *alerts);
    alerts->node = node;
    int r = alerts_parse_levels(config->alert_levels, alerts->levels, &alerts->level_count);
    ASSERT(r == 0); /* policy_open */
    return config->alert_webhook[0] == 0
               ? 0
               : webhook_open(&alerts->webhook, config->alert_webhook, err);
}

void alerts_close(struct alerts *alerts)
{
    webhook_close(alerts->webhook);
    alerts->webhook = NULL;
}

static const char *subject_name(enum alert_subject subject)
{
    return subject == ALERT_LOG ? "log" : "disk";
}

static uint64_t percent_x100(struct alert_usage usage)
{
    return usage.limit_bytes == 0
               ? 0
               : (uint64_t)((double)usage.used_bytes * 10000.0 / (double)usage.limit_bytes);
}

static void tell_webhook(struct alerts *alerts, enum alert_subject subject,
                         struct alert_usage usage, unsigned level, bool is_above)
{
    char memory[WEBHOOK_BODY_MAX];
    char host[256] = "";
    char node[ULID_TEXT_BYTES];
    char time[CLOCK_RFC3339_BYTES];
    struct buf body;
    if (alerts->webhook == NULL) {
        return;
    }
    (void)gethostname(host, sizeof host - 1);
    ulid_format(node, &alerts->node);
    size_t time_bytes = clock_rfc3339(time, clock_real_ns(), 3);
    uint64_t percent = percent_x100(usage);
    buf_init(&body, memory, sizeof memory);
    buf_printf(&body,
               "{\"event\":\"disk_usage\",\"subject\":\"%s\",\"state\":\"%s\",\"level\":%u,"
               "\"percent\":%" PRIu64 ".%02" PRIu64 ",\"used_bytes\":%" PRIu64
               ",\"limit_bytes\":%" PRIu64 ",\"node\":\"%.26s\",\"host\":",
               subject_name(subject), is_above ? "above" : "below", level, percent / 100,
               percent % 100, usage.used_bytes, usage.limit_bytes, node);
    buf_put_json_string(&body, (struct slice){(const uint8_t *)host, strlen(host)});
    buf_printf(&body, ",\"time\":\"%.*s\"}", (int)time_bytes, time);
    (void)webhook_send(alerts->webhook, (struct slice){(const uint8_t *)memory, body.bytes});
}

static void tell(struct alerts *alerts, enum alert_subject subject, struct alert_usage usage,
                 unsigned level, bool is_above)
{
    uint64_t percent = percent_x100(usage);
    LOG(is_above ? LOGLINE_WARNING : LOGLINE_INFO, "disk_usage",
        "%s: %" PRIu64 ".%02" PRIu64 " %% used, %s the alert level of %u %% (%" PRIu64
        " of %" PRIu64 " bytes)",
        subject == ALERT_LOG ? "log against store.retention_bytes" : "file system of the data",
        percent / 100, percent % 100, is_above ? "above" : "below again", level, usage.used_bytes,
        usage.limit_bytes);
    atomic_fetch_add_explicit(&alerts->crossings, 1, memory_order_relaxed); /* relaxed: statistic */
    tell_webhook(alerts, subject, usage, level, is_above);
}

/* Below this, in hundredths of a percent, a level is left. A level that is not above the hysteresis would never
 * be: half of it will do. */
static uint64_t leave_x100(unsigned level)
{
    return level > ALERT_HYSTERESIS ? 100ull * (level - ALERT_HYSTERESIS) : 50ull * level;
}

void alerts_judge(struct alerts *alerts, enum alert_subject subject, struct alert_usage usage)
{
    uint64_t percent = percent_x100(usage);
    unsigned *reached = &alerts->reached[subject];
    atomic_store_explicit(&alerts->percent_x100[subject], percent, memory_order_relaxed);
    while (*reached < alerts->level_count && percent >= 100ull * alerts->levels[*reached]) {
        tell(alerts, subject, usage, alerts->levels[*reached], true);
        (*reached)++;
    }
    while (*reached > 0 && percent < leave_x100(alerts->levels[*reached - 1])) {
        (*reached)--;
        tell(alerts, subject, usage, alerts->levels[*reached], false);
    }
}

void alerts_look(struct alerts *alerts, uint64_t now_ns, const char *data_dir, uint64_t log_bytes,
                 uint64_t retention_bytes)
{
    struct statvfs disk;
    if (now_ns - alerts->looked_at_ns < ALERT_LOOK_NS) {
        return;
    }
    alerts->looked_at_ns = now_ns;
    alerts_judge(alerts, ALERT_LOG, (struct alert_usage){log_bytes, retention_bytes});
    if (statvfs(data_dir, &disk) == 0) {
        /* As df says it: what root alone may use counts as used. */
        uint64_t unit = disk.f_frsize;
        uint64_t used = (disk.f_blocks - disk.f_bfree) * unit;
        alerts_judge(alerts, ALERT_DISK, (struct alert_usage){used, used + disk.f_bavail * unit});
    }
}
