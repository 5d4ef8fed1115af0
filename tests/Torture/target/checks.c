#include "checks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "parts.h"

// A thread is lost of which nothing is heard for a minute in which this process had the CPU, or for five.
enum { most_checks = 512, stalled_looks = 300, look = 1, look_with_cpu = 5, enough_cpu_ns = 100000000 };

static struct check checks[most_checks];
static size_t count;
static _Atomic bool ended;

static uint64_t read_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t now_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

void sleep_ms(unsigned milliseconds)
{
    struct timespec left = { milliseconds / 1000, milliseconds % 1000 * 1000000L };
    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

void die(const char *what)
{
    while (ended)
        pause(); // what it waits for is removed at the end
    fprintf(stderr, "target: %s: %s\n", what, strerror(errno));
    _exit(2);
}

struct check *new_check(const char *name, ...)
{
    if (count == most_checks) {
        errno = E2BIG;
        die("new_check");
    }
    struct check *check = &checks[count++];
    va_list arguments;
    va_start(arguments, name);
    vsnprintf(check->name, sizeof check->name, name, arguments);
    va_end(arguments);
    return check;
}

void held(struct check *check)
{
    check->iterations++;
}

void deviation(struct check *check, const char *what, ...)
{
    char line[360];
    int saved = errno;
    if (ended)
        return;
    int start = snprintf(line, sizeof line, "deviation in %s: ", check->name);
    va_list arguments;
    va_start(arguments, what);
    vsnprintf(line + start, sizeof line - (size_t)start - 1, what, arguments);
    va_end(arguments);
    if (check->deviations++ == 0)
        strncpy(check->first, line + start, sizeof check->first - 1);
    strcat(line, "\n");
    if (write(STDERR_FILENO, line, strlen(line)) < 0)
        _exit(3);
    errno = saved;
}

void find_stalled(void)
{
    static uint64_t used;
    uint64_t before = used;
    used = read_ns(CLOCK_PROCESS_CPUTIME_ID);
    unsigned looks = used - before >= enough_cpu_ns ? look_with_cpu : look;
    for (size_t i = 0; i < count; i++) {
        struct check *check = &checks[i];
        if (check->idle || check->iterations != check->watched) {
            check->watched = check->iterations;
            check->looks = 0;
        } else if ((check->looks += looks) >= stalled_looks) {
            deviation(check, "nothing heard of it for a minute or more");
            check->looks = 0;
        }
    }
}

void end_checks(void)
{
    ended = true;
}

uint64_t total_deviations(void)
{
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += checks[i].deviations;
    return total;
}

static void print_text(FILE *to, const char *text)
{
    putc('"', to);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putc('\\', to);
        putc((unsigned char)*text < ' ' ? ' ' : *text, to);
    }
    putc('"', to);
}

void print_checks(FILE *to)
{
    fprintf(to, "{\"deviations\":%" PRIu64 ",\"checks\":[", total_deviations());
    for (size_t i = 0; i < count; i++) {
        struct check *check = &checks[i];
        fprintf(to, "%s{\"name\":\"%s\",\"iterations\":%" PRIu64 ",\"deviations\":%" PRIu64 ",\"late\":%" PRIu64 ",\"idle\":%s,\"first\":",
            i ? "," : "", check->name, check->iterations, check->deviations, check->late, check->idle ? "true" : "false");
        print_text(to, check->first);
        putc('}', to);
    }
    fprintf(to, "]}\n");
    fflush(to);
}

// The kernel's own view, without what libc hides: its signal sets have 8 bytes.
static uint64_t signal_mask(void)
{
    uint64_t mask = 0;
    if (syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof mask))
        die("rt_sigprocmask");
    return mask;
}

void signal_state_init(struct signal_state *state)
{
    memset(state, 0, sizeof *state);
    state->mask = signal_mask();
    if (sigaltstack(NULL, &state->stack))
        die("sigaltstack");
}

void check_signal_state(const struct signal_state *state, struct check *check)
{
    const uint64_t waited_for = 1ull << (wait_signal - 1); // may come at any time
    uint64_t mask = signal_mask(), pending = 0;
    stack_t stack;
    if (mask != state->mask)
        deviation(check, "the signal mask was %#" PRIx64 ", is %#" PRIx64, state->mask, mask);
    if (sigaltstack(NULL, &stack))
        deviation(check, "sigaltstack failed: errno %d", errno);
    else if (stack.ss_sp != state->stack.ss_sp || stack.ss_size != state->stack.ss_size || stack.ss_flags != state->stack.ss_flags)
        deviation(check, "the alternate signal stack was %p, %zu, %#x; is %p, %zu, %#x",
            state->stack.ss_sp, state->stack.ss_size, (unsigned)state->stack.ss_flags, stack.ss_sp, stack.ss_size, (unsigned)stack.ss_flags);
    if (syscall(SYS_rt_sigpending, &pending, sizeof pending))
        deviation(check, "rt_sigpending failed: errno %d", errno);
    else if (pending & mask & ~waited_for)
        deviation(check, "signals are pending that nobody sent: %#" PRIx64, pending & mask);
}
