// Signals, counted: each carries its number, so that one that is lost, doubled or overtaken shows.
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checks.h"
#include "hold.h"
#include "parts.h"

enum { most_receivers = 128, most_outstanding = 3, alternate_size = 65536, wait_ms = 20, pause_ms = 10, patience_ms = 1000 };

struct receiver {
    struct check *check;
    int index;
    char *alternate_stack; // of every third receiver
    bool takes_sigurg;     // half of them leave it blocked
    bool one_at_a_time;    // waits for nothing but signals
    _Atomic pid_t thread;  // once it receives
    _Atomic uint64_t sent, received, noticed;
    _Atomic uint64_t sigurg_sent, sigurg_received;
    _Atomic uint64_t others_run; // handlers of other signals
    uint64_t sent_at_ns;
};

static struct receiver *receivers[most_receivers];
static int count;
static _Atomic bool ending;
static _Thread_local struct receiver *own;

static void check_stack(struct receiver *receiver)
{
    char here;
    uintptr_t offset = (uintptr_t)&here - (uintptr_t)receiver->alternate_stack;
    if (receiver->alternate_stack && offset >= alternate_size)
        deviation(receiver->check, "a handler ran outside of the alternate stack");
}

static void check_arrived(struct receiver *receiver, const siginfo_t *info, _Atomic uint64_t *received, const _Atomic uint64_t *sent)
{
    uint64_t number = (uint64_t)(uintptr_t)info->si_value.sival_ptr, expected = *received + 1;
    if (info->si_code != SI_QUEUE || info->si_pid != getpid() || expected > *sent) {
        deviation(receiver->check, "signal %d that was not sent: code %d from process %d", info->si_signo, info->si_code, info->si_pid);
        return;
    }
    if (number != expected)
        deviation(receiver->check, "signal %d number %" PRIu64 " came instead of %" PRIu64, info->si_signo, number, expected);
    *received = number;
}

static void handle(int signal, siginfo_t *info, void *context)
{
    struct receiver *receiver = own;
    int saved = errno;
    (void)context;
    if (signal == counted_signal)
        check_arrived(receiver, info, &receiver->received, &receiver->sent);
    else if (signal == SIGURG)
        check_arrived(receiver, info, &receiver->sigurg_received, &receiver->sigurg_sent);
    else
        deviation(receiver->check, "signal %d that nobody sends", signal);
    check_stack(receiver);
    held(receiver->check);
    errno = saved;
}

struct receiver *new_receiver(const char *name, int index)
{
    if (count == most_receivers) {
        errno = E2BIG;
        die("new_receiver");
    }
    struct receiver *receiver = calloc(1, sizeof *receiver);
    receiver->check = new_check("signals, %s", name);
    receiver->index = index;
    receiver->takes_sigurg = index % 2 == 0;
    if (index % 3 == 0) {
        receiver->alternate_stack = mmap(NULL, alternate_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (receiver->alternate_stack == MAP_FAILED)
            die("mmap");
    }
    receivers[count++] = receiver;
    return receiver;
}

void begin_receiving(struct receiver *receiver)
{
    own = receiver;
    if (receiver->alternate_stack) {
        stack_t stack = { .ss_sp = receiver->alternate_stack, .ss_size = alternate_size };
        if (sigaltstack(&stack, NULL))
            die("sigaltstack");
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, counted_signal);
    if (receiver->takes_sigurg) {
        sigaddset(&set, SIGURG);
        sigaddset(&set, SIGWINCH);
    }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    receiver->thread = gettid();
}

void handler_ran(void)
{
    own->others_run++;
}

uint64_t handler_runs(const struct receiver *receiver)
{
    return receiver->received + receiver->sigurg_received + receiver->others_run;
}

// --- what the receivers do meanwhile

struct receiving {
    struct receiver *receiver;
    struct holder holder;
    struct signal_state signals;
};

static struct receiving *begin(void *argument)
{
    struct receiving *thread = aligned_alloc(64, (sizeof *thread + 63) / 64 * 64);
    thread->receiver = argument;
    holder_init(&thread->holder, false);
    begin_receiving(thread->receiver);
    signal_state_init(&thread->signals);
    return thread;
}

static void *spin(void *argument)
{
    struct receiving *thread = begin(argument);
    for (;;) {
        hold_spin(&thread->holder, thread->receiver->check, 20000);
        check_signal_state(&thread->signals, thread->receiver->check);
        sleep_ms(pause_ms);
    }
    return NULL;
}

// SA_RESTART has the kernel go on with these: they never return.
static void wait_without_end(struct receiving *thread, long number, const long arguments[6])
{
    for (;;) {
        long result = hold_syscall(&thread->holder, thread->receiver->check, number, arguments);
        deviation(thread->receiver->check, "system call %ld returned %ld, with SA_RESTART", number, result);
    }
}

static void *read_pipe(void *argument)
{
    struct receiving *thread = begin(argument);
    char byte;
    int ends[2];
    if (pipe(ends))
        die("pipe");
    wait_without_end(thread, SYS_read, (long[6]){ ends[0], (long)(uintptr_t)&byte, 1 });
    return NULL;
}

static void *wait_futex(void *argument)
{
    static uint32_t word;
    struct receiving *thread = begin(argument);
    wait_without_end(thread, SYS_futex, (long[6]){ (long)(uintptr_t)&word, FUTEX_WAIT_PRIVATE });
    return NULL;
}

// These return EINTR whenever a handler ran, and only then.
static void *wait_interrupted(void *argument, long number, const long arguments[6])
{
    struct receiving *thread = begin(argument);
    struct check *check = thread->receiver->check;
    for (;;) {
        uint64_t runs = handler_runs(thread->receiver), began = now_ns();
        long result = hold_syscall(&thread->holder, check, number, arguments);
        uint64_t waited_us = (now_ns() - began) / 1000;
        bool interrupted = result == -EINTR && handler_runs(thread->receiver) > runs;
        if (!interrupted && result)
            deviation(check, "system call %ld returned %ld, and no handler ran", number, result);
        if (result == 0 && waited_us < wait_ms * 1000)
            deviation(check, "system call %ld returned early, after %" PRIu64 " us of %d", number, waited_us, wait_ms * 1000);
        check_signal_state(&thread->signals, check);
    }
    return NULL;
}

static void *poll_nothing(void *argument)
{
    return wait_interrupted(argument, SYS_poll, (long[6]){ 0, 0, wait_ms });
}

static void *sleep_a_while(void *argument)
{
    static const struct timespec time = { 0, wait_ms * 1000000L };
    return wait_interrupted(argument, SYS_nanosleep, (long[6]){ (long)(uintptr_t)&time });
}

static void *epoll_timed(void *argument)
{
    struct epoll_event event;
    return wait_interrupted(argument, SYS_epoll_wait, (long[6]){ epoll_create1(0), (long)(uintptr_t)&event, 1, wait_ms });
}

// Waits for nothing but signals. One that comes just before the system call is not noticed until the next; that is rare, and
// is counted as late. Whoever begins such a call again under a handler makes it common.
static void *epoll_untimed(void *argument)
{
    struct receiving *thread = begin(argument);
    struct receiver *receiver = thread->receiver;
    struct epoll_event event;
    const long arguments[6] = { epoll_create1(0), (long)(uintptr_t)&event, 1, -1 };
    for (;;) {
        uint64_t runs = handler_runs(receiver);
        long result = hold_syscall(&thread->holder, receiver->check, SYS_epoll_wait, arguments);
        if (result != -EINTR || handler_runs(receiver) == runs)
            deviation(receiver->check, "epoll_wait returned %ld, and no handler ran", result);
        receiver->noticed = receiver->received;
        check_signal_state(&thread->signals, receiver->check);
    }
    return NULL;
}

// --- the sender

static void queue(struct receiver *receiver, int signal, uint64_t number)
{
    siginfo_t info = { .si_code = SI_QUEUE };
    info.si_pid = getpid();
    info.si_value.sival_ptr = (void *)(uintptr_t)number;
    if (syscall(SYS_rt_tgsigqueueinfo, getpid(), receiver->thread, signal, &info))
        deviation(receiver->check, "could not send signal %d: errno %d", signal, errno);
}

static bool may_send(struct receiver *receiver)
{
    if (!receiver->one_at_a_time)
        return receiver->sent - receiver->received < most_outstanding;
    if (receiver->noticed == receiver->sent)
        return true;
    if (receiver->received < receiver->sent || now_ns() < receiver->sent_at_ns + patience_ms * 1000000ull)
        return false;
    receiver->check->late++;
    return true;
}

static void send_to(struct receiver *receiver)
{
    if (!receiver->thread)
        return;
    if (may_send(receiver)) {
        receiver->sent_at_ns = now_ns();
        queue(receiver, counted_signal, ++receiver->sent);
    }
    if (options.catch_sigurg && receiver->takes_sigurg && !receiver->one_at_a_time && receiver->sigurg_sent == receiver->sigurg_received)
        queue(receiver, SIGURG, ++receiver->sigurg_sent);
}

static void *send_signals(void *argument)
{
    uint64_t random = 0xBB67AE8584CAA73B;
    (void)argument;
    for (;;) {
        for (int i = 0; i < count && !ending; i++) {
            if (next_random(&random) % 8 == 0)
                send_to(receivers[i]);
        }
        sleep_ms(pause_ms);
    }
    return NULL;
}

bool signals_are_delivered(void)
{
    ending = true;
    bool all = false;
    for (int tries = 0; tries < 10000 && !all; tries++) {
        sleep_ms(1);
        all = true;
        for (int i = 0; i < count; i++)
            all &= receivers[i]->received == receivers[i]->sent && receivers[i]->sigurg_received == receivers[i]->sigurg_sent;
    }
    for (int i = 0; i < count && !all; i++) {
        struct receiver *receiver = receivers[i];
        if (receiver->received != receiver->sent)
            deviation(receiver->check, "%" PRIu64 " signals were sent, %" PRIu64 " came", receiver->sent, receiver->received);
        if (receiver->sigurg_received != receiver->sigurg_sent)
            deviation(receiver->check, "%" PRIu64 " SIGURG were sent, %" PRIu64 " came", receiver->sigurg_sent, receiver->sigurg_received);
    }
    return all;
}

static void install(int signal)
{
    struct sigaction action = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };
    sigfillset(&action.sa_mask);
    if (sigaction(signal, &action, NULL))
        die("sigaction");
}

void start_signals(void)
{
    static const struct { const char *name; void *(*run)(void *); } kinds[] = {
        { "spinning", spin },
        { "read", read_pipe },
        { "futex", wait_futex },
        { "poll, timed", poll_nothing },
        { "nanosleep", sleep_a_while },
        { "epoll_wait, timed", epoll_timed },
        { "epoll_wait", epoll_untimed },
    };
    install(counted_signal);
    if (options.catch_sigurg) {
        install(SIGURG);
        install(SIGWINCH);
    }
    for (int i = 0; i < (int)(sizeof kinds / sizeof kinds[0]); i++) {
        struct receiver *receiver = new_receiver(kinds[i].name, i);
        receiver->one_at_a_time = kinds[i].run == epoll_untimed;
        start_thread(kinds[i].run, receiver);
    }
    start_thread(send_signals, NULL);
}
