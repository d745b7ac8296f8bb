/*
 * bench_http_head: nanoseconds per request head, for the heads that matter, and the cost of a head
 * that comes byte by byte. Prints the median and the best of its blocks; run it pinned (taskset -c
 * 1) on a quiet machine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/http_head.h"

#define BLOCKS           15
#define ROUNDS_PER_BLOCK 200000

static const struct http_limits limits = {16384, 8192, HTTP_FIELDS_MAX, MIB(16)};

static const char wrk_post[] = "POST /v1/logs HTTP/1.1\r\n"
                               "Host: 127.0.0.1:8080\r\n"
                               "Content-Type: application/json\r\n"
                               "Content-Length: 137\r\n"
                               "\r\n";
static const char wrk_post_6[] = "POST /v1/logs HTTP/1.1\r\n"
                                 "Host: 127.0.0.1:8080\r\n"
                                 "Content-Type: application/json\r\n"
                                 "User-Agent: wrk/4.1.0\r\n"
                                 "Accept: */*\r\n"
                                 "Connection: keep-alive\r\n"
                                 "Content-Length: 137\r\n"
                                 "\r\n";
static const char get_browser[] =
    "GET /v1/logs?service=checkout&level=ERROR&limit=100 HTTP/1.1\r\n"
    "Host: telemetry.example.com\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Firefox/115.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "DNT: 1\r\n"
    "Connection: keep-alive\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "\r\n";

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void parse_whole(const uint8_t *data, size_t bytes)
{
    static struct http_head head;
    struct http_fault fault;
    if (http_head_parse(&head, data, bytes, 0, &limits, &fault) != 1) {
        fprintf(stderr, "head refused\n");
        exit(1);
    }
    __asm__ volatile("" : : "r"(&head) : "memory");
}

static void parse_bytewise(const uint8_t *data, size_t bytes)
{
    static struct http_head head;
    struct http_fault fault;
    int result = 0;
    for (size_t i = 1; i <= bytes && result == 0; i++) {
        result = http_head_parse(&head, data, i, i - 1, &limits, &fault);
    }
    if (result != 1) {
        fprintf(stderr, "head refused\n");
        exit(1);
    }
}

/* The head is followed by a body, as it is in a receive buffer. */
static void measure(const char *name, const char *head, void (*parse)(const uint8_t *, size_t),
                    unsigned rounds)
{
    static uint8_t buffer[4096];
    double ns[BLOCKS];
    const size_t bytes = strlen(head);
    memcpy(buffer, head, bytes);
    memset(buffer + bytes, '{', 137);
    const size_t given = parse == parse_whole ? bytes + 137 : bytes;
    for (unsigned block = 0; block < BLOCKS; block++) {
        const double start = now_ns();
        for (unsigned i = 0; i < rounds; i++) {
            parse(buffer, given);
        }
        ns[block] = (now_ns() - start) / rounds;
    }
    qsort(ns, BLOCKS, sizeof ns[0], by_value);
    printf("%-24s %4zu bytes  median %7.1f ns  best %7.1f ns\n", name, bytes, ns[BLOCKS / 2],
           ns[0]);
}

int main(void)
{
    measure("wrk POST, 3 fields", wrk_post, parse_whole, ROUNDS_PER_BLOCK);
    measure("wrk POST, 6 fields", wrk_post_6, parse_whole, ROUNDS_PER_BLOCK);
    measure("browser GET, 8 fields", get_browser, parse_whole, ROUNDS_PER_BLOCK);
    measure("wrk POST, byte by byte", wrk_post_6, parse_bytewise, ROUNDS_PER_BLOCK / 50);
    measure("browser GET, b. by byte", get_browser, parse_bytewise, ROUNDS_PER_BLOCK / 50);
    return 0;
}
