#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"

#define DRAW_NS (100 * NS_MS)

enum {
    BAR_CELLS = 30,
};

void progress_open(struct progress *progress, const char *label)
{
    *progress = (struct progress){
        .label = label, .is_shown = isatty(STDERR_FILENO) != 0, .started_ns = clock_mono_ns()};
}

void progress_bytes(void *context, uint64_t done, uint64_t all)
{
    struct progress *progress = context;
    char bar[BAR_CELLS + 1];
    uint64_t now_ns = clock_mono_ns();
    if (!progress->is_shown || (progress->drawn_ns != 0 && now_ns - progress->drawn_ns < DRAW_NS)) {
        return;
    }
    progress->drawn_ns = now_ns;
    double part = all == 0 ? 1.0 : (double)u64_min(done, all) / (double)all;
    double seconds = (double)(now_ns - progress->started_ns) / (double)NS_S;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    double left = rate > 0 ? (double)(all - u64_min(done, all)) / rate : 0;
    int cells = (int)(part * BAR_CELLS);
    memset(bar, '.', BAR_CELLS);
    memset(bar, '#', (size_t)cells);
    bar[BAR_CELLS] = 0;
    bool is_slow = rate < 1e7;
    fprintf(stderr, "\r%s [%s] %3.0f %%  %.0f %s/s  %.0f s left \033[K", progress->label, bar,
            100 * part, is_slow ? rate / 1e3 : rate / 1e6, is_slow ? "kB" : "MB", left);
    (void)fflush(stderr);
}

void progress_close(struct progress *progress)
{
    if (progress->drawn_ns != 0) {
        fputs("\r\033[K", stderr);
        (void)fflush(stderr);
    }
}
