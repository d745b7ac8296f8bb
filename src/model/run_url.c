/* run_url: the URLs that a run's repository and commit have (run.h). Pure. */
#include "model/run.h"

#include <string.h>

static bool is_white(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct slice trim(struct slice text)
{
    while (text.bytes > 0 && is_white(text.data[0])) {
        text = (struct slice){text.data + 1, text.bytes - 1};
    }
    while (text.bytes > 0 && is_white(text.data[text.bytes - 1])) {
        text.bytes--;
    }
    return text;
}

static bool has_prefix(struct slice text, struct slice prefix)
{
    return text.bytes >= prefix.bytes && memcmp(text.data, prefix.data, prefix.bytes) == 0;
}

static struct slice slashes_drop(struct slice text)
{
    while (text.bytes > 0 && text.data[text.bytes - 1] == '/') {
        text.bytes--;
    }
    return text;
}

static struct slice tail_drop(struct slice text)
{
    static const char suffix[] = ".git";
    const size_t suffix_bytes = sizeof suffix - 1;
    text = slashes_drop(text);
    if (text.bytes >= suffix_bytes &&
        memcmp(text.data + text.bytes - suffix_bytes, suffix, suffix_bytes) == 0) {
        text.bytes -= suffix_bytes;
    }
    return slashes_drop(text);
}

/* What no URL has, and what makes two readers of one see different hosts. */
static bool is_unsafe(struct slice text)
{
    for (size_t i = 0; i < text.bytes; i++) {
        uint8_t c = text.data[i];
        if (c <= ' ' || c == 0x7f || c == '\\') {
            return true;
        }
    }
    return false;
}

static bool is_in(uint8_t c, const char *set)
{
    return memchr(set, c, strlen(set)) != NULL;
}

static bool is_letter_or_digit(uint8_t c)
{
    return (unsigned)c - '0' <= 9 || (unsigned)(c | 0x20) - 'a' < 26;
}

/* Bytes of text before the first of set, or all. */
static size_t span_before(struct slice text, const char *set)
{
    size_t bytes = 0;
    while (bytes < text.bytes && !is_in(text.data[bytes], set)) {
        bytes++;
    }
    return bytes;
}

static bool is_host_name(struct slice host)
{
    for (size_t i = 0; i < host.bytes; i++) {
        if (!is_letter_or_digit(host.data[i]) && !is_in(host.data[i], "-._")) {
            return false;
        }
    }
    return host.bytes > 0;
}

static const struct slice scheme = {(const uint8_t *)"https://", 8};

/* `git@HOST:PATH` is "https://HOST/PATH"; everything else is itself. */
static void repo_put(struct buf *out, struct slice repo)
{
    static const struct slice user = {(const uint8_t *)"git@", 4};
    if (!has_prefix(repo, user)) {
        buf_put_slice(out, repo);
        return;
    }
    struct slice rest = {repo.data + user.bytes, repo.bytes - user.bytes};
    struct slice host = {rest.data, span_before(rest, ":")};
    if (host.bytes == rest.bytes || !is_host_name(host)) {
        return;
    }
    struct slice path = {rest.data + host.bytes + 1, rest.bytes - host.bytes - 1};
    while (path.bytes > 0 && path.data[0] == '/') {
        path = (struct slice){path.data + 1, path.bytes - 1};
    }
    buf_put_slice(out, scheme);
    buf_put_slice(out, host);
    buf_put_char(out, '/');
    buf_put_slice(out, path);
}

/* Of a URL with the scheme: user, host and port. */
static struct slice authority_of(struct slice url)
{
    struct slice rest = {url.data + scheme.bytes, url.bytes - scheme.bytes};
    return (struct slice){rest.data, span_before(rest, "/?#")};
}

static struct slice host_of(struct slice url)
{
    struct slice host = authority_of(url);
    for (size_t at = span_before(host, "@"); at < host.bytes; at = span_before(host, "@")) {
        host = (struct slice){host.data + at + 1, host.bytes - at - 1};
    }
    return (struct slice){host.data, span_before(host, ":")};
}

size_t run_repo_url(char *out, struct slice git_repo)
{
    struct buf url;
    buf_init(&url, out, RUN_URL_BYTES);
    struct slice repo = trim(git_repo);
    if (is_unsafe(repo)) {
        return 0;
    }
    repo_put(&url, tail_drop(repo));
    struct slice made = slashes_drop((struct slice){url.data, url.bytes});
    bool is_good = !url.is_truncated && has_prefix(made, scheme) && host_of(made).bytes > 0;
    return is_good ? made.bytes : 0;
}

/* Between the repository's URL and the hash; NULL: nobody knows. */
static const char *commit_path(struct slice host)
{
    static const struct {
        struct slice host;
        const char *path;
    } hosts[] = {
        {{(const uint8_t *)"github.com", 10}, "/commit/"},
        {{(const uint8_t *)"gitlab.com", 10}, "/-/commit/"},
        {{(const uint8_t *)"bitbucket.org", 13}, "/commits/"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(hosts); i++) {
        if (slice_equal_nocase(host, hosts[i].host)) {
            return hosts[i].path;
        }
    }
    return NULL;
}

/* A repository's URL that a path can be put behind. */
static bool is_extensible(struct slice url)
{
    size_t authority_end = scheme.bytes + authority_of(url).bytes;
    return authority_end < url.bytes && span_before(url, "?#") == url.bytes;
}

/* One segment of a path that is itself and no other. */
static bool is_hash(struct slice hash)
{
    bool has_more_than_dots = false;
    for (size_t i = 0; i < hash.bytes; i++) {
        uint8_t c = hash.data[i];
        if (!is_letter_or_digit(c) && !is_in(c, "-._~")) {
            return false;
        }
        has_more_than_dots |= c != '.';
    }
    return has_more_than_dots;
}

size_t run_commit_url(char *out, struct slice git_repo, struct slice commit_hash)
{
    struct slice hash = trim(commit_hash);
    struct slice repo = {(const uint8_t *)out, run_repo_url(out, git_repo)};
    if (repo.bytes == 0 || !is_hash(hash) || !is_extensible(repo)) {
        return 0;
    }
    const char *path = commit_path(host_of(repo));
    if (path == NULL) {
        return 0;
    }
    struct buf url;
    buf_init(&url, out, RUN_URL_BYTES);
    url.bytes = repo.bytes;
    buf_put_text(&url, path);
    buf_put_slice(&url, hash);
    return url.is_truncated ? 0 : url.bytes;
}
