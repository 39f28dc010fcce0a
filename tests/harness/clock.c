/* A machine whose clock is wrong: preloaded into a program, it sets the time of day ahead.
 *
 * In: WALRELAY_CLOCK_AHEAD, seconds; may be negative. Clocks that only measure how long something
 * takes go as they did. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *);
    *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(clock, now);
    const char *ahead = getenv("WALRELAY_CLOCK_AHEAD");
    if (answer == 0 && clock == CLOCK_REALTIME && ahead != NULL) now->tv_sec += atol(ahead);
    return answer;
}
