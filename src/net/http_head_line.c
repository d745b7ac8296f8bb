/*
 * http_head_line: the request line: method SP target SP version CRLF (RFC 9112 §3). Pure.
 *
 * Nothing is normalised: the target stays as sent, percent-encoding and all. Its four forms (§3.2):
 * origin ("/path?query"), absolute ("http://host/path", for which the authority is kept and
 * compared with Host later), asterisk (OPTIONS only), and authority (CONNECT only, which Sluice
 * does not speak: 400).
 */
#include <string.h>

#include "net/http_chars.h"
#include "net/http_walk.h"

/* The longest registered method has 17 bytes (UPDATEREDIRECTREF). */
#define METHOD_BYTES_MAX 32
/* "HTTP/1.1" has 8; a little more is read before the answer, so that a space or control behind it
 * is still seen. */
#define VERSION_BYTES_MAX 16

static enum http_method method_of(const uint8_t *method, size_t bytes)
{
    switch (bytes) {
    case 3:
        return memcmp(method, "GET", 3) == 0   ? HTTP_GET
               : memcmp(method, "PUT", 3) == 0 ? HTTP_PUT
                                               : HTTP_OTHER;
    case 4:
        return memcmp(method, "POST", 4) == 0   ? HTTP_POST
               : memcmp(method, "HEAD", 4) == 0 ? HTTP_HEAD
                                                : HTTP_OTHER;
    case 5:
        return memcmp(method, "PATCH", 5) == 0 ? HTTP_PATCH : HTTP_OTHER;
    case 6:
        return memcmp(method, "DELETE", 6) == 0 ? HTTP_DELETE : HTTP_OTHER;
    case 7:
        return memcmp(method, "OPTIONS", 7) == 0 ? HTTP_OPTIONS : HTTP_OTHER;
    default:
        return HTTP_OTHER;
    }
}

/* The end of what a part of bytes_max bytes at most (and its delimiter) may take. */
static const uint8_t *part_end(const struct http_walk *walk, size_t bytes_max)
{
    const size_t left = (size_t)(walk->end - walk->at);
    return left > bytes_max ? walk->at + bytes_max + 1 : walk->end;
}

static int take_method(struct http_walk *walk)
{
    const uint8_t *method = walk->at;
    const uint8_t *stop = http_scan_name(method, part_end(walk, METHOD_BYTES_MAX));
    const size_t bytes = (size_t)(stop - method);
    walk->at = stop;
    if (bytes > METHOD_BYTES_MAX) {
        return http_walk_fault(walk, 501, "The method is longer than any that is known.");
    }
    if (stop == walk->end) {
        return 0;
    }
    if (UNLIKELY(*stop != ' ' || bytes == 0)) {
        return http_walk_fault(walk, 400, "The request does not start with a method and a space.");
    }
    walk->head->method = method_of(method, bytes);
    walk->at = stop + 1;
    return 1;
}

static const uint8_t *find_either(const uint8_t *at, const uint8_t *end, uint8_t a, uint8_t b)
{
    while (at < end && *at != a && *at != b) {
        at++;
    }
    return at;
}

/* 7 or 8 when the target starts with http:// or https:// (any case), else 0. */
static size_t scheme_bytes(struct slice target)
{
    const struct slice plain = SLICE_LITERAL("http://");
    const struct slice tls = SLICE_LITERAL("https://");
    if (target.bytes >= plain.bytes &&
        slice_equal_nocase((struct slice){target.data, plain.bytes}, plain)) {
        return plain.bytes;
    }
    if (target.bytes >= tls.bytes &&
        slice_equal_nocase((struct slice){target.data, tls.bytes}, tls)) {
        return tls.bytes;
    }
    return 0;
}

/* http://authority[/path][?query]. An empty path means "/" (RFC 9110 §4.2.3): the span then points
 * at the last slash of
 * "://", the nearest one to be had without copying. */
static int absolute_form(struct http_walk *walk, const uint8_t *target, const uint8_t *end)
{
    struct http_head *head = walk->head;
    const size_t scheme = scheme_bytes((struct slice){target, (size_t)(end - target)});
    if (scheme == 0) {
        return http_walk_fault(walk, 400, "The request target is neither a path nor an http URL.");
    }
    const uint8_t *authority = target + scheme;
    const uint8_t *path = find_either(authority, end, '/', '?');
    const uint8_t *path_end = find_either(path, end, '?', '?');
    if (!http_host_is_valid((struct slice){authority, (size_t)(path - authority)})) {
        return http_walk_fault(walk, 400, "The request target names no valid host.");
    }
    walk->authority = http_walk_span(walk, authority, path);
    head->path = path_end > path ? http_walk_span(walk, path, path_end)
                                 : http_walk_span(walk, authority - 1, authority);
    head->query = (struct http_span){0, 0};
    if (path_end < end) {
        head->query = http_walk_span(walk, path_end + 1, end);
    }
    return 1;
}

/* The forms other than origin-form: rare. */
static int other_form(struct http_walk *walk, const uint8_t *target, const uint8_t *end)
{
    if (end - target != 1 || *target != '*') {
        return absolute_form(walk, target, end);
    }
    if (walk->head->method != HTTP_OPTIONS) {
        return http_walk_fault(walk, 400, "The target \"*\" is for OPTIONS only.");
    }
    return 1;
}

static int target_fault(struct http_walk *walk, const uint8_t *target)
{
    const uint8_t stop = *walk->at;
    if (stop == ' ') {
        ASSERT(walk->at == target);
        return http_walk_fault(walk, 400, "The request line has more than one space in a row.");
    }
    if (stop == '\r' || stop == '\n') {
        return http_walk_fault(walk, 400, "The request line has no HTTP version.");
    }
    if (stop == '#') {
        return http_walk_fault(walk, 400, "The request target contains a fragment.");
    }
    return http_walk_fault(walk, 400,
                           "The request target contains a character that is not allowed.");
}

static int take_target(struct http_walk *walk)
{
    struct http_head *head = walk->head;
    const uint8_t *target = walk->at;
    const uint8_t *limit = part_end(walk, walk->limits->target_bytes_max);
    const uint8_t *path_end = http_scan_path(target, limit);
    const uint8_t *stop = path_end;
    /* Bound: each round takes a '?' of the query. */
    while (stop < limit && *stop == '?') {
        stop = http_scan_path(stop + 1, limit);
    }
    walk->at = stop;
    if (UNLIKELY((size_t)(stop - target) > walk->limits->target_bytes_max)) {
        return http_walk_fault(walk, 414, "The request target is longer than allowed.");
    }
    if (UNLIKELY(stop == walk->end)) {
        return 0;
    }
    if (UNLIKELY(*stop != ' ' || stop == target)) {
        return target_fault(walk, target);
    }
    head->target = http_walk_span(walk, target, stop);
    head->path = http_walk_span(walk, target, path_end);
    if (path_end < stop) {
        head->query = http_walk_span(walk, path_end + 1, stop);
    }
    walk->at = stop + 1;
    return LIKELY(*target == '/') ? 1 : other_form(walk, target, stop);
}

static bool is_version_1(const uint8_t *version)
{
    return memcmp(version, "HTTP/1.", 7) == 0 && (version[7] == '1' || version[7] == '0');
}

/* Everything but the eight right bytes with their CRLF. The verdict waits for the delimiter, so
 * that it does not depend on how the bytes were cut. */
static int version_fault(struct http_walk *walk)
{
    const uint8_t *version = walk->at;
    const uint8_t *limit = part_end(walk, VERSION_BYTES_MAX);
    const uint8_t *stop = version;
    while (stop<limit && * stop> ' ' && *stop < 0x7f) {
        stop++;
    }
    const size_t bytes = (size_t)(stop - version);
    walk->at = stop;
    if (bytes > VERSION_BYTES_MAX) {
        return http_walk_fault(walk, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
    }
    if (stop == walk->end) {
        return 0;
    }
    if (http_char_is_blank(*stop) || bytes == 0) {
        return http_walk_fault(walk, 400,
                               "The request line is not three words with a single space between.");
    }
    const int result = http_walk_line_end(walk);
    if (result <= 0) {
        return result;
    }
    return http_walk_fault(walk, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
}

static int take_version(struct http_walk *walk)
{
    const uint8_t *version = walk->at;
    if (UNLIKELY(walk->end - version < 10 || !is_version_1(version) || version[8] != '\r' ||
                 version[9] != '\n')) {
        return version_fault(walk);
    }
    walk->head->version_minor = (uint8_t)(version[7] - '0');
    walk->at = version + 10;
    return 1;
}

int http_request_line(struct http_walk *walk)
{
    int result = take_method(walk);
    if (UNLIKELY(result <= 0)) {
        return result;
    }
    result = take_target(walk);
    if (UNLIKELY(result <= 0)) {
        return result;
    }
    return take_version(walk);
}
