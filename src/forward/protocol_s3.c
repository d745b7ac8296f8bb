/*
 * protocol_s3: whole sealed segments as objects of an S3 bucket, or of any store that speaks its API. Pure.
 *
 *   PUT {url}/{prefix}{node}/log/{segment id, 16 hex digits}.slc|seg     If-None-Match: *
 *
 * The name is the file's in the data directory, so what is copied back from below {node} is a data directory that dump, query
 * and replay read. {node} is the stream of the LSN behind the segment's last (store/lineage.h): the file that a restored log ends
 * with may be shorter than its original's. A segment id below it means the same records for ever, so a repeat meets its own object: 412 is
 * success. x-amz-meta-sluice-lsn says which records are inside. url names the bucket
 * (https://BUCKET.s3.REGION.amazonaws.com, or https://HOST/BUCKET). x-amz-content-sha256 is libcurl's.
 *
 * A segment holds many records and cannot be halved: what S3 refuses is never a record's fault but the operator's
 * (names, rights, limits), so the sink pauses and nothing is thrown away.
 */
#include "forward/protocol_table.h"

#include <stdio.h>
#include <string.h>

#include "forward/target_url.h"

static void s3_encoding(const struct config_sink *sink, char *out)
{
    (void)sink;
    (void)snprintf(out, FORWARD_ENCODING_BYTES, "s3/segment/1");
}

/* Of the path: what is no unreserved character of RFC 3986 nor '/' in the one form that signatures are computed over. */
static void put_path(struct buf *path, const char *text)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
    for (; *text != 0; text++) {
        if (strchr(plain, *text) != NULL) {
            buf_put_char(path, *text);
        } else {
            buf_printf(path, "%%%02X", (unsigned)(uint8_t)*text);
        }
    }
}

static void s3_url(const struct encoder *encoder, char *out)
{
    char node[ULID_TEXT_BYTES];
    char memory[3 * CONFIG_SINK_TEXT + 128];
    struct buf path;
    struct buf url;
    ASSERT(encoder->segment_suffix != NULL);
    ulid_format(node, &encoder->node);
    buf_init(&path, memory, sizeof memory - 1);
    buf_put_char(&path, '/');
    put_path(&path, encoder->sink->prefix + (encoder->sink->prefix[0] == '/'));
    buf_put(&path, node, sizeof node);
    buf_printf(&path, "/log/%016llx.%s", (unsigned long long)encoder->segment_id,
               encoder->segment_suffix);
    ASSERT(!path.is_truncated);
    memory[path.bytes] = 0;
    buf_init(&url, out, FORWARD_URL_BYTES - 1);
    target_url_put(&url, encoder->sink->url, memory);
    out[url.is_truncated ? 0 : url.bytes] = 0; /* a cut one would mean something else */
}

static void s3_headers(const struct encoder *encoder, char *out)
{
    static const char condition[] = "If-None-Match: *";
    size_t at = sizeof condition; /* with its NUL */
    memcpy(out, condition, sizeof condition);
    int bytes =
        snprintf(out + at, 128, "x-amz-meta-sluice-lsn: %llu-%llu",
                 (unsigned long long)encoder->first_lsn, (unsigned long long)encoder->last_lsn);
    out[at + (size_t)bytes + 1] = 0; /* the empty one that ends them */
}

/* S3 says what was wrong as XML: <Error><Code>SlowDown</Code>... */
static bool has_code(const struct upstream_answer *answer, const char *code)
{
    char element[96];
    int bytes = snprintf(element, sizeof element, "<Code>%s</Code>", code);
    return answer->body.bytes > 0 &&
           memmem(answer->body.data, answer->body.bytes, element, (size_t)bytes) != NULL;
}

/* 400s that are accidents of this one attempt. */
static bool is_passing(const struct upstream_answer *answer)
{
    static const char *const codes[] = {"RequestTimeout", "BadDigest", "IncompleteBody",
                                        "XAmzContentSHA256Mismatch"};
    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        if (has_code(answer, codes[i])) {
            return true;
        }
    }
    return answer->status == 409; /* ConditionalRequestConflict: another attempt is under way */
}

static void s3_judge(const struct encoder *encoder, const struct upstream_answer *answer,
                     struct judgement *judgement)
{
    (void)encoder;
    judge_by_status(answer, judgement);
    if (answer->fault != TRANSPORT_OK) {
        return;
    }
    if (answer->status == 412) {
        judgement->verdict = VERDICT_DONE;
    } else if (is_passing(answer)) {
        judgement->verdict = VERDICT_RETRY;
    } else if (judgement->verdict == VERDICT_REFUSED || answer->status == 501) {
        judgement->verdict = VERDICT_PAUSE; /* 501: a store that knows no If-None-Match */
    }
}

const struct protocol protocol_s3 = {
    .name = "s3",
    .kinds = UINT32_MAX,
    .takes_segments = true,
    .encoding = s3_encoding,
    .url = s3_url,
    .method = "PUT",
    .content_type = "application/octet-stream",
    .headers = s3_headers,
    .judge = s3_judge,
};
