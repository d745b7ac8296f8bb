#include "api/webhook.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/agent.h"
#include "core/logline.h"
#include "core/mem.h"
#include "core/park.h"
#include "core/spsc.h"

#define SLEEP_NS (NS_S / 4)

struct webhook {
    char *url;
    struct spsc queue;
    struct park park;
    struct agent agent;
    CURL *curl;
    uint64_t dropped; /* main's */
    _Atomic uint64_t sent;
    _Atomic uint64_t failed;
    _Atomic bool stop;
};

static bool is_stopping(const struct webhook *webhook)
{
    /* relaxed: the flag is the whole message. */
    return atomic_load_explicit(&webhook->stop, memory_order_relaxed);
}

/* ---- the thread ---- */

static size_t ignore_answer(char *data, size_t size, size_t count, void *context)
{
    (void)data;
    (void)context;
    return size * count;
}

static bool post_once(struct webhook *webhook, const char *body, char *reason, size_t room)
{
    CURL *curl = webhook->curl;
    struct curl_slist *fields = curl_slist_append(NULL, "Content-Type: application/json");
    long status = 0;
    curl_easy_reset(curl);
    (void)curl_easy_setopt(curl, CURLOPT_URL, webhook->url);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L); /* threads */
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)WEBHOOK_TIMEOUT_S);
    (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "sluice/" SLUICE_VERSION);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore_answer);
    CURLcode code = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(fields);
    if (code != CURLE_OK) {
        (void)snprintf(reason, room, "%s", curl_easy_strerror(code));
    } else {
        (void)snprintf(reason, room, "status %ld", status);
    }
    return code == CURLE_OK && status >= 200 && status < 300;
}

static void pause_a_second(const struct webhook *webhook)
{
    struct timespec pause = {.tv_nsec = (long)SLEEP_NS};
    for (unsigned i = 0; i < 4 && !is_stopping(webhook); i++) {
        (void)nanosleep(&pause, NULL);
    }
}

static void post(struct webhook *webhook, const char *body)
{
    char reason[128] = "";
    bool is_sent = false;
    for (unsigned i = 0; !is_sent && i <= WEBHOOK_RETRIES && !is_stopping(webhook); i++) {
        if (i > 0) {
            pause_a_second(webhook);
        }
        is_sent = post_once(webhook, body, reason, sizeof reason);
    }
    /* relaxed: statistics. */
    atomic_fetch_add_explicit(is_sent ? &webhook->sent : &webhook->failed, 1, memory_order_relaxed);
    if (!is_sent) {
        LOG(LOGLINE_WARNING, "webhook", "the alert webhook did not take a message: %s", reason);
    }
}

static int webhook_duty(void *context)
{
    struct webhook *webhook = context;
    char body[WEBHOOK_BODY_MAX + 1];
    if (is_stopping(webhook)) {
        return 1;
    }
    const struct spsc_frame *frame = spsc_take(&webhook->queue);
    if (frame != NULL) {
        memcpy(body, frame->payload, frame->bytes);
        body[frame->bytes] = 0;
        spsc_release(&webhook->queue);
        post(webhook, body);
        return 0;
    }
    park_prepare(&webhook->park, PARK_ANY);
    if (spsc_is_empty(&webhook->queue) && !is_stopping(webhook)) {
        struct pollfd poll_fd = {.fd = webhook->park.fd, .events = POLLIN};
        struct timespec timeout = {.tv_nsec = (long)SLEEP_NS};
        if (ppoll(&poll_fd, 1, &timeout, NULL) > 0) {
            park_drain(&webhook->park);
        }
    }
    park_cancel(&webhook->park);
    return 0;
}

/* ---- main's side ---- */

bool webhook_send(struct webhook *webhook, struct slice body)
{
    uint8_t *to = body.bytes <= WEBHOOK_BODY_MAX ? spsc_claim(&webhook->queue, body.bytes) : NULL;
    if (to == NULL) {
        webhook->dropped++;
        return false;
    }
    memcpy(to, body.data, body.bytes);
    (void)spsc_commit(&webhook->queue, 1, body.bytes);
    (void)spsc_publish(&webhook->queue);
    (void)park_wake(&webhook->park, true);
    return true;
}

int webhook_open(struct webhook **out, const char *url, struct err *err)
{
    struct webhook *webhook = mem_alloc(sizeof *webhook);
    size_t bytes = strlen(url) + 1;
    webhook->park.fd = -1;
    webhook->url = mem_alloc(bytes);
    memcpy(webhook->url, url, bytes);
    int r = spsc_init(&webhook->queue, WEBHOOK_QUEUE_BYTES, 0, err);
    r = r == 0 ? park_init(&webhook->park, err) : r;
    if (r == 0) {
        webhook->curl = curl_easy_init();
        r = webhook->curl == NULL ? err_set(err, -ENOMEM, "libcurl does not start") : 0;
    }
    if (r == 0) {
        struct agent_options options = {
            .name = "webhook", .cpu = -1, .context = webhook, .duty = webhook_duty};
        r = agent_start(&webhook->agent, &options, err);
    }
    if (r < 0) {
        curl_easy_cleanup(webhook->curl);
        spsc_close(&webhook->queue);
        park_close(&webhook->park);
        mem_free(webhook->url);
        mem_free(webhook);
        return err_wrap(err, r, "webhook");
    }
    *out = webhook;
    return 0;
}

void webhook_close(struct webhook *webhook)
{
    if (webhook == NULL) {
        return;
    }
    atomic_store_explicit(&webhook->stop, true,
                          memory_order_relaxed); /* relaxed: see is_stopping */
    (void)park_wake(&webhook->park, true);
    agent_join(&webhook->agent);
    curl_easy_cleanup(webhook->curl);
    spsc_close(&webhook->queue);
    park_close(&webhook->park);
    mem_free(webhook->url);
    mem_free(webhook);
}

struct webhook_counts webhook_counts(const struct webhook *webhook)
{
    /* relaxed: statistics. */
    return (struct webhook_counts){
        atomic_load_explicit(&webhook->sent, memory_order_relaxed),
        atomic_load_explicit(&webhook->failed, memory_order_relaxed),
        webhook->dropped,
    };
}
