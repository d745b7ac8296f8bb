/* run_url: the URL rules of api.md §2.3, also for repositories that were made to fool them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "model/run.h"

#define HASH "abc1234567890"

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

struct url_case {
    const char *repo;
    const char *repo_url;   /* NULL: none */
    const char *commit_url; /* of HASH */
};

static bool is_url(const char *url, size_t bytes, const char *expected)
{
    return expected == NULL ? bytes == 0
                            : bytes == strlen(expected) && memcmp(url, expected, bytes) == 0;
}

static void expect_urls(const struct url_case *cases, size_t count)
{
    char url[RUN_URL_BYTES];
    for (size_t i = 0; i < count; i++) {
        size_t bytes = run_repo_url(url, text_slice(cases[i].repo));
        if (!is_url(url, bytes, cases[i].repo_url)) {
            fail_msg("repo_url of %s: %.*s", cases[i].repo, (int)bytes, url);
        }
        bytes = run_commit_url(url, text_slice(cases[i].repo), SLICE_LITERAL(HASH));
        if (!is_url(url, bytes, cases[i].commit_url)) {
            fail_msg("commit_url of %s: %.*s", cases[i].repo, (int)bytes, url);
        }
    }
}

static void each_host_has_its_commit_path(void **state)
{
    (void)state;
    static const struct url_case cases[] = {
        {"https://github.com/o/r", "https://github.com/o/r", "https://github.com/o/r/commit/" HASH},
        {"https://gitlab.com/g/s/r", "https://gitlab.com/g/s/r",
         "https://gitlab.com/g/s/r/-/commit/" HASH},
        {"https://bitbucket.org/o/r", "https://bitbucket.org/o/r",
         "https://bitbucket.org/o/r/commits/" HASH},
        {"https://example.com/o/r", "https://example.com/o/r", NULL},
        {"https://GitHub.com/o/r", "https://GitHub.com/o/r", "https://GitHub.com/o/r/commit/" HASH},
        {"https://user@bitbucket.org/o/r.git", "https://user@bitbucket.org/o/r",
         "https://user@bitbucket.org/o/r/commits/" HASH},
        {"https://github.com:443/o/r", "https://github.com:443/o/r",
         "https://github.com:443/o/r/commit/" HASH},
    };
    expect_urls(cases, ARRAY_COUNT(cases));
}

static void a_repository_is_trimmed_and_loses_its_suffix(void **state)
{
    (void)state;
    static const struct url_case cases[] = {
        {"git@github.com:o/r.git", "https://github.com/o/r", "https://github.com/o/r/commit/" HASH},
        {" \t\ngit@gitlab.com:g/r \r\n", "https://gitlab.com/g/r",
         "https://gitlab.com/g/r/-/commit/" HASH},
        {"git@git.example.com:o/r.git/", "https://git.example.com/o/r", NULL},
        {"git@github.com:/o/r", "https://github.com/o/r", "https://github.com/o/r/commit/" HASH},
        {"https://github.com/o/r.git", "https://github.com/o/r",
         "https://github.com/o/r/commit/" HASH},
        {"https://github.com/o/r///", "https://github.com/o/r",
         "https://github.com/o/r/commit/" HASH},
        {"https://github.com/o/r.git//", "https://github.com/o/r",
         "https://github.com/o/r/commit/" HASH},
        {"https://github.com/o/r.git.git", "https://github.com/o/r.git",
         "https://github.com/o/r.git/commit/" HASH},
        {"https://github.com/o/git", "https://github.com/o/git",
         "https://github.com/o/git/commit/" HASH},
    };
    expect_urls(cases, ARRAY_COUNT(cases));
}

static void what_is_no_https_url_has_none(void **state)
{
    (void)state;
    static const char *const repos[] = {
        "",
        " ",
        "https://",
        "https:///",
        "https:///o/r",
        "https://@/o/r",
        "https://:443/o/r",
        "http://github.com/o/r",
        "HTTPS://github.com/o/r",
        "ssh://git@github.com/o/r",
        "git://github.com/o/r",
        "github.com/o/r",
        "/home/x/https://github.com/o/r",
        "javascript:alert(1)//https://github.com",
        "C:\\r",
        "git@",
        "git@:o/r",
        "git@github.com",
        "git@github.com/o/r",
        "git@evil.com/x:github.com/o/r",
        "git@x@github.com:o/r",
        "user@github.com:o/r",
        ".git",
        "https://github.com/o/r\nSet-Cookie: a",
        "https://github.com/o r",
        "https://github.com/o/r\x7f",
        "https://evil.com\\@github.com/o/r",
    };
    for (size_t i = 0; i < ARRAY_COUNT(repos); i++) {
        expect_urls(&(struct url_case){repos[i], NULL, NULL}, 1);
    }
}

static void the_host_is_the_host_and_nothing_else(void **state)
{
    (void)state;
    static const char *const repos[] = {
        "https://evil.com/github.com/o/r",
        "https://github.com.evil.com/o/r",
        "https://evilgithub.com/o/r",
        "https://www.github.com/o/r",
        "https://github.com@evil.com/o/r",
        "https://github.com:x@evil.com/o/r",
        "https://a@github.com@evil.com/o/r",
        "https://evil.com?github.com/o/r",
        "https://evil.com#@github.com/o/r",
        "https://evil.com:@/github.com/o/r",
        "https://github%2ecom/o/r",
        "https://github.com./o/r",
        "https://github.com",
        "https://github.com/o/r?x=1",
        "https://github.com/o/r#x",
    };
    char url[RUN_URL_BYTES];
    for (size_t i = 0; i < ARRAY_COUNT(repos); i++) {
        if (run_commit_url(url, text_slice(repos[i]), SLICE_LITERAL(HASH)) != 0) {
            fail_msg("has a commit: %s", repos[i]);
        }
    }
}

static void a_hash_is_one_segment_of_a_path(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    " ",   ".",     "..",   "../x",   "a/b", "a?b",
                                      "a#b", "a b", "a%2fb", "a\nb", "\u00fc", "a\\b"};
    char url[RUN_URL_BYTES];
    struct slice repo = SLICE_LITERAL("https://github.com/o/r");
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_int_equal(run_commit_url(url, repo, text_slice(bad[i])), 0);
    }
    size_t bytes = run_commit_url(url, repo, SLICE_LITERAL(" v1.2_3~x-y "));
    assert_true(is_url(url, bytes, "https://github.com/o/r/commit/v1.2_3~x-y"));
}

static void a_url_that_does_not_fit_is_none(void **state)
{
    (void)state;
    static const char head[] = "https://github.com/";
    static char repo[RUN_URL_BYTES + 64];
    char url[RUN_URL_BYTES];
    memset(repo, 'x', sizeof repo);
    memcpy(repo, head, sizeof head - 1);
    for (size_t bytes = RUN_URL_BYTES - 64; bytes < sizeof repo; bytes++) {
        struct slice slice = {(const uint8_t *)repo, bytes};
        size_t whole = bytes + sizeof "/commit/" - 1 + sizeof HASH - 1;
        assert_int_equal(run_repo_url(url, slice), bytes <= RUN_URL_BYTES ? bytes : 0);
        assert_int_equal(run_commit_url(url, slice, SLICE_LITERAL(HASH)),
                         whole <= RUN_URL_BYTES ? whole : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_host_has_its_commit_path),
        cmocka_unit_test(a_repository_is_trimmed_and_loses_its_suffix),
        cmocka_unit_test(what_is_no_https_url_has_none),
        cmocka_unit_test(the_host_is_the_host_and_nothing_else),
        cmocka_unit_test(a_hash_is_one_segment_of_a_path),
        cmocka_unit_test(a_url_that_does_not_fit_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
