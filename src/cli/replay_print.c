#include "cli/replay_print.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "core/clock.h"

static void time_text(char *out, int64_t ns)
{
    size_t bytes = clock_rfc3339(out, ns, 3);
    out[bytes] = 0;
}

static void print_count_json(const struct replay_count *count, const char *oldest,
                             const char *newest)
{
    printf("{\"first_lsn\":%" PRIu64 ",\"last_lsn\":%" PRIu64 ",\"records\":%" PRIu64
           ",\"payload_bytes\":%" PRIu64 ",\"kinds\":{",
           count->first_lsn, count->last_lsn, count->records, count->payload_bytes);
    const char *comma = "";
    for (unsigned kind = 1; kind <= RECORD_KIND_MAX; kind++) {
        const char *name = record_kind_name((enum record_kind)kind);
        if (name != NULL) {
            printf("%s\"%s\":%" PRIu64, comma, name, count->by_kind[kind]);
            comma = ",";
        }
    }
    printf("},\"oldest\":%s%s%s,\"newest\":%s%s%s,\"damaged\":%" PRIu64 "}\n",
           count->records == 0 ? "" : "\"", oldest, count->records == 0 ? "" : "\"",
           count->records == 0 ? "" : "\"", newest, count->records == 0 ? "" : "\"",
           count->damaged);
}

void replay_print_count(const struct replay_count *count, bool is_json)
{
    char oldest[CLOCK_RFC3339_BYTES + 1] = "null";
    char newest[CLOCK_RFC3339_BYTES + 1] = "null";
    if (count->records != 0) {
        time_text(oldest, count->oldest_ns);
        time_text(newest, count->newest_ns);
    }
    if (is_json) {
        print_count_json(count, oldest, newest);
        return;
    }
    printf("dry run: %" PRIu64 " records, %" PRIu64 " bytes", count->records, count->payload_bytes);
    for (unsigned kind = 1; kind <= RECORD_KIND_MAX; kind++) {
        if (count->by_kind[kind] != 0) {
            printf(", %s %" PRIu64, record_kind_name((enum record_kind)kind), count->by_kind[kind]);
        }
    }
    if (count->records != 0) {
        printf("; of %s to %s", oldest, newest);
    }
    if (count->first_lsn <= count->last_lsn) {
        printf("; LSN %" PRIu64 " to %" PRIu64 " would be looked at\n", count->first_lsn,
               count->last_lsn);
    } else {
        printf("; there is nothing in that range\n");
    }
}

static void print_summary_json(const char *job, const char *state, const struct replay_progress *at)
{
    const struct sink_picture *picture = &at->picture;
    const struct sink_position *position = &picture->position;
    printf("{\"job\":\"%s\",\"state\":\"%s\",\"first_lsn\":%" PRIu64 ",\"last_lsn\":%" PRIu64
           ",\"delivered\":%" PRIu64 ",\"filtered\":%" PRIu64 ",\"quarantined\":%" PRIu64
           ",\"expired\":%" PRIu64 ",\"damaged\":%" PRIu64 ",\"dropped\":%" PRIu64
           ",\"pending\":%" PRIu64 ",\"requests\":%" PRIu64 ",\"retries\":%" PRIu64
           ",\"sent_bytes\":%" PRIu64 "}\n",
           job, state, at->first_lsn, at->last_lsn, position->delivered, position->filtered,
           position->quarantined, position->expired, position->damaged, position->dropped,
           at->all_lsns - at->done_lsns, picture->requests, picture->retries, picture->sent_bytes);
}

void replay_print_summary(const char *job, const char *state, const struct replay_progress *at,
                          bool is_json)
{
    const struct sink_position *position = &at->picture.position;
    if (is_json) {
        print_summary_json(job, state, at);
        return;
    }
    printf("replay %s: %s: %" PRIu64 " records delivered, %" PRIu64 " not asked for, %" PRIu64
           " in quarantine, %" PRIu64 " expired, %" PRIu64 " damaged, %" PRIu64
           " left of LSN %" PRIu64 " to %" PRIu64 "\n",
           job, state, position->delivered, position->filtered, position->quarantined,
           position->expired, position->damaged, at->all_lsns - at->done_lsns, at->first_lsn,
           at->last_lsn);
}

void replay_print_job(const struct replay_job *job, bool is_json)
{
    const struct sink_position *at = &job->position;
    const char *state = job->is_running ? "running" : job->is_finished ? "finished" : "paused";
    uint64_t next = u64_max(at->live_next, job->lsn_min);
    uint64_t left = job->is_finished || next > job->lsn_max ? 0 : job->lsn_max + 1 - next;
    if (!is_json) {
        printf("%s  %s  %" PRIu64 " delivered, %" PRIu64 " in quarantine, %" PRIu64
               " LSNs not read yet  %s\n",
               job->name, state, at->delivered, at->quarantined, left, job->parameters);
        return;
    }
    uint8_t memory[2 * REPLAY_PARAMETERS_MAX];
    struct buf text;
    buf_init(&text, memory, sizeof memory);
    buf_put_json_string(&text,
                        (struct slice){(const uint8_t *)job->parameters, strlen(job->parameters)});
    printf("{\"job\":\"%s\",\"state\":\"%s\",\"delivered\":%" PRIu64 ",\"quarantined\":%" PRIu64
           ",\"first_lsn\":%" PRIu64 ",\"last_lsn\":%" PRIu64 ",\"unread\":%" PRIu64
           ",\"parameters\":%.*s}\n",
           job->name, state, at->delivered, at->quarantined, job->lsn_min, job->lsn_max, left,
           (int)text.bytes, (const char *)text.data);
}
