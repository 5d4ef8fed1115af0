// Threads that wait, each in one way, with all registers held: no wait may fail, nor end before its time or before it was woken.
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checks.h"
#include "hold.h"
#include "parts.h"

enum {
    // Dozens of threads wait by turns, and an emulated host is slow. A thread that waits is a better target than one that has to.
    shortest_ms = 20,
    longest_ms = 250,
    late_ms = 2000,
    pause_ms = 10,
    kernel_sigset_size = 8,
};

struct waiter {
    const struct wait *wait;
    struct check *check;
    struct holder *holder;
    pid_t thread;
    int fd;   // what it waits for
    int peer; // what wakes it
    struct sockaddr_un address;
    aio_context_t aio;
    pid_t child;
    uint64_t timeout_ns;
    _Atomic uint64_t posted; // times it was woken, counted before
    _Atomic uint64_t taken;  // times it noticed
    _Atomic uint32_t futex;
    _Atomic bool waking;

    // What system calls read and write.
    struct timespec time;
    struct timeval timeval;
    struct pollfd poll;
    fd_set set;
    struct epoll_event event;
    struct io_event io_event;
    uint64_t mask;
    struct { const uint64_t *mask; size_t size; } select_mask;
    struct sembuf down;
    struct { long type; char text[8]; } message;
    siginfo_t signal;
    int status;
    char buffer[8];
};

struct wait {
    const char *name;
    long number;
    void (*open)(struct waiter *);
    void (*prepare)(struct waiter *, long *arguments);

    // For one that ends by itself: what it returns then, and whether the kernel counts it in jiffies, which may lag behind the clock.
    long expected;
    bool in_jiffies;

    // For one that has to be woken: how, and whether what it returned is right.
    void (*wake)(struct waiter *);
    bool (*woken)(struct waiter *, long result);
};

static long address_of(const volatile void *object)
{
    return (long)(uintptr_t)object;
}

static void require(bool holds, const char *what)
{
    if (!holds)
        die(what);
}

// --- what is waited for

static void open_event(struct waiter *waiter)
{
    waiter->fd = waiter->peer = eventfd(0, 0);
    require(waiter->fd >= 0, "eventfd");
}

static void open_epoll(struct waiter *waiter)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = 0x4B564D };
    waiter->peer = eventfd(0, 0);
    waiter->fd = epoll_create1(0);
    require(waiter->fd >= 0 && !epoll_ctl(waiter->fd, EPOLL_CTL_ADD, waiter->peer, &event), "epoll_create1");
}

static void open_pipe(struct waiter *waiter)
{
    int ends[2];
    require(!pipe(ends), "pipe");
    waiter->fd = ends[0];
    waiter->peer = ends[1];
}

static void open_socket(struct waiter *waiter)
{
    int ends[2];
    require(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
    waiter->fd = ends[0];
    waiter->peer = ends[1];
}

static void open_listener(struct waiter *waiter)
{
    waiter->address.sun_family = AF_UNIX;
    snprintf(waiter->address.sun_path + 1, sizeof waiter->address.sun_path - 1, "kvmtsc-torture-%d-%d", getpid(), gettid());
    waiter->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    require(!bind(waiter->fd, (struct sockaddr *)&waiter->address, sizeof waiter->address) && !listen(waiter->fd, 8), "listen");
}

static void open_semaphore(struct waiter *waiter)
{
    waiter->fd = semget(IPC_PRIVATE, 1, 0600);
    require(waiter->fd >= 0, "semget");
}

static void open_messages(struct waiter *waiter)
{
    waiter->fd = msgget(IPC_PRIVATE, 0600);
    require(waiter->fd >= 0, "msgget");
}

static void open_message_queue(struct waiter *waiter)
{
    char name[40];
    struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = sizeof waiter->buffer };
    snprintf(name, sizeof name, "/kvmtsc-torture-%d-%d", getpid(), gettid());
    waiter->fd = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    require(waiter->fd >= 0, "mq_open");
    mq_unlink(name);
}

static void open_aio(struct waiter *waiter)
{
    require(!syscall(SYS_io_setup, 1, &waiter->aio), "io_setup");
}

static void open_timer(struct waiter *waiter)
{
    waiter->fd = timerfd_create(CLOCK_MONOTONIC, 0);
    require(waiter->fd >= 0, "timerfd_create");
}

static void open_nothing(struct waiter *waiter)
{
    (void)waiter;
}

// --- how long

static struct timespec *relative(struct waiter *waiter)
{
    waiter->time = (struct timespec){ (time_t)(waiter->timeout_ns / 1000000000), (long)(waiter->timeout_ns % 1000000000) };
    return &waiter->time;
}

static struct timespec *absolute(struct waiter *waiter, clockid_t clock)
{
    clock_gettime(clock, &waiter->time);
    uint64_t nanoseconds = (uint64_t)waiter->time.tv_nsec + waiter->timeout_ns;
    waiter->time.tv_sec += (time_t)(nanoseconds / 1000000000);
    waiter->time.tv_nsec = (long)(nanoseconds % 1000000000);
    return &waiter->time;
}

static struct timeval *relative_micro(struct waiter *waiter)
{
    waiter->timeval = (struct timeval){ 0, (suseconds_t)(waiter->timeout_ns / 1000) };
    return &waiter->timeval;
}

static void limit_receive(struct waiter *waiter)
{
    require(!setsockopt(waiter->fd, SOL_SOCKET, SO_RCVTIMEO, relative_micro(waiter), sizeof waiter->timeval), "setsockopt");
}

// Another mask for the length of a system call; nobody sends what it lets through.
static uint64_t *other_mask(struct waiter *waiter)
{
    waiter->mask = ~(1ull << (SIGUSR2 - 1));
    return &waiter->mask;
}

// --- arguments

#define ARGUMENTS(a, b, c, d, e, f) memcpy(arguments, (long[6]){ a, b, c, d, e, f }, 6 * sizeof(long))

static void nanosleep_arguments(struct waiter *w, long *arguments)
{
    ARGUMENTS(address_of(relative(w)), 0, 0, 0, 0, 0);
}

static void clock_nanosleep_relative(struct waiter *w, long *arguments)
{
    ARGUMENTS(CLOCK_MONOTONIC, 0, address_of(relative(w)), 0, 0, 0);
}

static void clock_nanosleep_monotonic(struct waiter *w, long *arguments)
{
    ARGUMENTS(CLOCK_MONOTONIC, TIMER_ABSTIME, address_of(absolute(w, CLOCK_MONOTONIC)), 0, 0, 0);
}

static void clock_nanosleep_realtime(struct waiter *w, long *arguments)
{
    ARGUMENTS(CLOCK_REALTIME, TIMER_ABSTIME, address_of(absolute(w, CLOCK_REALTIME)), 0, 0, 0);
}

static long pollfd_of(struct waiter *w)
{
    w->poll = (struct pollfd){ w->fd, POLLIN, 0 };
    return address_of(&w->poll);
}

static void poll_timed(struct waiter *w, long *arguments)
{
    ARGUMENTS(pollfd_of(w), 1, (long)(w->timeout_ns / 1000000), 0, 0, 0);
}

static void poll_untimed(struct waiter *w, long *arguments)
{
    ARGUMENTS(pollfd_of(w), 1, -1, 0, 0, 0);
}

static void ppoll_timed(struct waiter *w, long *arguments)
{
    ARGUMENTS(pollfd_of(w), 1, address_of(relative(w)), 0, 0, 0);
}

static void ppoll_masked(struct waiter *w, long *arguments)
{
    ARGUMENTS(pollfd_of(w), 1, address_of(relative(w)), address_of(other_mask(w)), kernel_sigset_size, 0);
}

static void ppoll_untimed(struct waiter *w, long *arguments)
{
    ARGUMENTS(pollfd_of(w), 1, 0, address_of(other_mask(w)), kernel_sigset_size, 0);
}

static long set_of(struct waiter *w)
{
    FD_ZERO(&w->set);
    FD_SET(w->fd, &w->set);
    return address_of(&w->set);
}

static void select_timed(struct waiter *w, long *arguments)
{
    ARGUMENTS(w->fd + 1, set_of(w), 0, 0, address_of(relative_micro(w)), 0);
}

static void select_untimed(struct waiter *w, long *arguments)
{
    ARGUMENTS(w->fd + 1, set_of(w), 0, 0, 0, 0);
}

static void pselect_masked(struct waiter *w, long *arguments)
{
    w->select_mask.mask = other_mask(w);
    w->select_mask.size = kernel_sigset_size;
    ARGUMENTS(w->fd + 1, set_of(w), 0, 0, address_of(relative(w)), address_of(&w->select_mask));
}

static void epoll_timed(struct waiter *w, long *arguments)
{
    ARGUMENTS(w->fd, address_of(&w->event), 1, (long)(w->timeout_ns / 1000000), 0, 0);
}

static void epoll_untimed(struct waiter *w, long *arguments)
{
    ARGUMENTS(w->fd, address_of(&w->event), 1, -1, 0, 0);
}

static void epoll_masked(struct waiter *w, long *arguments)
{
    ARGUMENTS(w->fd, address_of(&w->event), 1, (long)(w->timeout_ns / 1000000), address_of(other_mask(w)), kernel_sigset_size);
}

static void epoll_masked_untimed(struct waiter *w, long *arguments)
{
    ARGUMENTS(w->fd, address_of(&w->event), 1, -1, address_of(other_mask(w)), kernel_sigset_size);
}

static void epoll_fine(struct waiter *w, long *arguments)
{
    ARGUMENTS(w->fd, address_of(&w->event), 1, address_of(relative(w)), 0, kernel_sigset_size);
}

static void futex_timed(struct waiter *w, long *arguments)
{
    ARGUMENTS(address_of(&w->futex), FUTEX_WAIT_PRIVATE, 0, address_of(relative(w)), 0, 0);
}

static void futex_absolute(struct waiter *w, long *arguments)
{
    ARGUMENTS(address_of(&w->futex), FUTEX_WAIT_BITSET_PRIVATE, 0, address_of(absolute(w, CLOCK_MONOTONIC)), 0, FUTEX_BITSET_MATCH_ANY);
}

static void futex_untimed(struct waiter *w, long *arguments)
{
    ARGUMENTS(address_of(&w->futex), FUTEX_WAIT_PRIVATE, (long)(uint32_t)w->taken, 0, 0, 0);
}

static void receive_timed(struct waiter *w, long *arguments)
{
    limit_receive(w);
    ARGUMENTS(w->fd, address_of(w->buffer), 1, 0, 0, 0);
}

static void receive(struct waiter *w, long *arguments)
{
    ARGUMENTS(w->fd, address_of(w->buffer), 1, 0, 0, 0);
}

static void accept_timed(struct waiter *w, long *arguments)
{
    limit_receive(w);
    ARGUMENTS(w->fd, 0, 0, 0, 0, 0);
}

static void accept_untimed(struct waiter *w, long *arguments)
{
    ARGUMENTS(w->fd, 0, 0, 0, 0, 0);
}

static void signal_timed(struct waiter *w, long *arguments)
{
    w->mask = 1ull << (timed_signal - 1);
    ARGUMENTS(address_of(&w->mask), 0, address_of(relative(w)), kernel_sigset_size, 0, 0);
}

static void signal_untimed(struct waiter *w, long *arguments)
{
    w->mask = 1ull << (wait_signal - 1);
    ARGUMENTS(address_of(&w->mask), address_of(&w->signal), 0, kernel_sigset_size, 0, 0);
}

static void semaphore_timed(struct waiter *w, long *arguments)
{
    w->down = (struct sembuf){ 0, -1, 0 };
    ARGUMENTS(w->fd, address_of(&w->down), 1, address_of(relative(w)), 0, 0);
}

static void semaphore_untimed(struct waiter *w, long *arguments)
{
    w->down = (struct sembuf){ 0, -1, 0 };
    ARGUMENTS(w->fd, address_of(&w->down), 1, 0, 0, 0);
}

static void message_arguments(struct waiter *w, long *arguments)
{
    ARGUMENTS(w->fd, address_of(&w->message), sizeof w->message.text, 0, 0, 0);
}

static void message_queue_timed(struct waiter *w, long *arguments)
{
    ARGUMENTS(w->fd, address_of(w->buffer), sizeof w->buffer, 0, address_of(absolute(w, CLOCK_REALTIME)), 0);
}

static void aio_timed(struct waiter *w, long *arguments)
{
    ARGUMENTS((long)w->aio, 1, 1, address_of(&w->io_event), address_of(relative(w)), 0);
}

static void read_word(struct waiter *w, long *arguments)
{
    ARGUMENTS(w->fd, address_of(w->buffer), 8, 0, 0, 0);
}

static void read_timer(struct waiter *w, long *arguments)
{
    struct itimerspec once = { .it_value = *relative(w) };
    require(!timerfd_settime(w->fd, 0, &once, NULL), "timerfd_settime");
    read_word(w, arguments);
}

// A process that ends by itself after a while, with a status of its own.
static void child_arguments(struct waiter *w, long *arguments)
{
    struct timespec *time = relative(w);
    w->child = fork();
    require(w->child >= 0, "fork");
    if (w->child == 0) {
        nanosleep(time, NULL);
        _exit((int)(w->taken & 0x7F));
    }
    w->posted++;
    ARGUMENTS(w->child, address_of(&w->status), 0, 0, 0, 0);
}

// --- waking

static void write_word(struct waiter *w)
{
    uint64_t one = 1;
    require(write(w->peer, &one, sizeof one) == sizeof one, "write to an eventfd");
}

static void write_byte(struct waiter *w)
{
    char byte = (char)w->posted;
    require(write(w->peer, &byte, 1) == 1, "write");
}

static void wake_futex(struct waiter *w)
{
    w->waking = true;
    w->futex = (uint32_t)w->posted;
    syscall(SYS_futex, &w->futex, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    w->waking = false;
}

static void connect_to(struct waiter *w)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    require(fd >= 0 && !connect(fd, (struct sockaddr *)&w->address, sizeof w->address), "connect");
    close(fd);
}

static void queue_signal(struct waiter *w)
{
    siginfo_t info = { .si_code = SI_QUEUE };
    info.si_pid = getpid();
    info.si_value.sival_int = (int)w->posted;
    require(!syscall(SYS_rt_tgsigqueueinfo, getpid(), w->thread, wait_signal, &info), "rt_tgsigqueueinfo");
}

static void semaphore_up(struct waiter *w)
{
    struct sembuf up = { 0, 1, 0 };
    require(!semop(w->fd, &up, 1), "semop");
}

static void send_message(struct waiter *w)
{
    struct { long type; char text[8]; } message = { (long)w->posted, "torture" };
    require(!msgsnd(w->fd, &message, sizeof message.text, 0), "msgsnd");
}

// --- whether it was woken: these take what woke them

static bool take_word(struct waiter *w)
{
    uint64_t value = 0;
    return read(w->peer, &value, sizeof value) == sizeof value && value == 1;
}

static bool poll_woken(struct waiter *w, long result)
{
    return result == 1 && w->poll.revents == POLLIN && take_word(w);
}

static bool select_woken(struct waiter *w, long result)
{
    return result == 1 && FD_ISSET(w->fd, &w->set) && take_word(w);
}

static bool epoll_woken(struct waiter *w, long result)
{
    return result == 1 && w->event.data.u64 == 0x4B564D && take_word(w);
}

static bool futex_woken(struct waiter *w, long result)
{
    // One that came too late to wait is woken all the same, in its next wait, if it is there before the waker is done.
    while (result == -EAGAIN && w->waking)
        sched_yield();
    return (result == 0 || result == -EAGAIN) && w->futex == (uint32_t)(w->taken + 1);
}

static bool word_woken(struct waiter *w, long result)
{
    uint64_t one = 1;
    return result == 8 && !memcmp(w->buffer, &one, 8);
}

static bool byte_woken(struct waiter *w, long result)
{
    return result == 1 && w->buffer[0] == (char)(w->taken + 1);
}

static bool accept_woken(struct waiter *w, long result)
{
    (void)w;
    return result >= 0 && !close((int)result);
}

static bool signal_woken(struct waiter *w, long result)
{
    return result == wait_signal && w->signal.si_value.sival_int == (int)(w->taken + 1);
}

static bool semaphore_woken(struct waiter *w, long result)
{
    (void)w;
    return result == 0;
}

static bool message_woken(struct waiter *w, long result)
{
    return result == sizeof w->message.text && w->message.type == (long)(w->taken + 1) && !strcmp(w->message.text, "torture");
}

static bool child_woken(struct waiter *w, long result)
{
    return result == w->child && WIFEXITED(w->status) && WEXITSTATUS(w->status) == (int)(w->taken & 0x7F);
}

static const struct wait waits[] = {
    { "nanosleep", SYS_nanosleep, open_nothing, nanosleep_arguments, 0, false, NULL, NULL },
    { "clock_nanosleep, relative", SYS_clock_nanosleep, open_nothing, clock_nanosleep_relative, 0, false, NULL, NULL },
    { "clock_nanosleep, absolute", SYS_clock_nanosleep, open_nothing, clock_nanosleep_monotonic, 0, false, NULL, NULL },
    { "clock_nanosleep, absolute realtime", SYS_clock_nanosleep, open_nothing, clock_nanosleep_realtime, 0, false, NULL, NULL },
    { "poll, timed", SYS_poll, open_event, poll_timed, 0, false, NULL, NULL },
    { "poll", SYS_poll, open_event, poll_untimed, 0, false, write_word, poll_woken },
    { "ppoll, timed", SYS_ppoll, open_event, ppoll_timed, 0, false, NULL, NULL },
    { "ppoll, timed, signal mask", SYS_ppoll, open_event, ppoll_masked, 0, false, NULL, NULL },
    { "ppoll, signal mask", SYS_ppoll, open_event, ppoll_untimed, 0, false, write_word, poll_woken },
    { "select, timed", SYS_select, open_event, select_timed, 0, false, NULL, NULL },
    { "select", SYS_select, open_event, select_untimed, 0, false, write_word, select_woken },
    { "pselect, timed, signal mask", SYS_pselect6, open_event, pselect_masked, 0, false, NULL, NULL },
    { "epoll_wait, timed", SYS_epoll_wait, open_epoll, epoll_timed, 0, false, NULL, NULL },
    { "epoll_wait", SYS_epoll_wait, open_epoll, epoll_untimed, 0, false, write_word, epoll_woken },
    { "epoll_pwait, timed, signal mask", SYS_epoll_pwait, open_epoll, epoll_masked, 0, false, NULL, NULL },
    { "epoll_pwait, signal mask", SYS_epoll_pwait, open_epoll, epoll_masked_untimed, 0, false, write_word, epoll_woken },
    { "epoll_pwait2, timed", 441, open_epoll, epoll_fine, 0, false, NULL, NULL },
    { "futex, timed", SYS_futex, open_nothing, futex_timed, -ETIMEDOUT, false, NULL, NULL },
    { "futex, absolute", SYS_futex, open_nothing, futex_absolute, -ETIMEDOUT, false, NULL, NULL },
    { "futex", SYS_futex, open_nothing, futex_untimed, 0, false, wake_futex, futex_woken },
    { "recv, SO_RCVTIMEO", SYS_recvfrom, open_socket, receive_timed, -EAGAIN, true, NULL, NULL },
    { "recv", SYS_recvfrom, open_socket, receive, 0, false, write_byte, byte_woken },
    { "accept, SO_RCVTIMEO", SYS_accept, open_listener, accept_timed, -EAGAIN, true, NULL, NULL },
    { "accept", SYS_accept, open_listener, accept_untimed, 0, false, connect_to, accept_woken },
    { "sigtimedwait", SYS_rt_sigtimedwait, open_nothing, signal_timed, -EAGAIN, false, NULL, NULL },
    { "sigwaitinfo", SYS_rt_sigtimedwait, open_nothing, signal_untimed, 0, false, queue_signal, signal_woken },
    { "semtimedop", SYS_semtimedop, open_semaphore, semaphore_timed, -EAGAIN, true, NULL, NULL },
    { "semop", SYS_semop, open_semaphore, semaphore_untimed, 0, false, semaphore_up, semaphore_woken },
    { "msgrcv", SYS_msgrcv, open_messages, message_arguments, 0, false, send_message, message_woken },
    { "mq_timedreceive", SYS_mq_timedreceive, open_message_queue, message_queue_timed, -ETIMEDOUT, false, NULL, NULL },
    { "io_getevents, timed", SYS_io_getevents, open_aio, aio_timed, 0, false, NULL, NULL },
    { "read, timerfd", SYS_read, open_timer, read_timer, 8, false, NULL, NULL },
    { "read, pipe", SYS_read, open_pipe, receive, 0, false, write_byte, byte_woken },
    { "read, eventfd", SYS_read, open_event, read_word, 0, false, write_word, word_woken },
    { "waitpid", SYS_wait4, open_nothing, child_arguments, 0, false, NULL, child_woken },
};

enum { wait_count = sizeof waits / sizeof waits[0] };

static struct waiter *waiters[wait_count];
static pthread_barrier_t opened;

static void check_timed(struct waiter *w, long result, uint64_t began, uint64_t ended)
{
    uint64_t waited = ended - began;
    if (result != w->wait->expected)
        deviation(w->check, "returned %ld instead of %ld after %" PRIu64 " us of %" PRIu64, result, w->wait->expected, waited / 1000, w->timeout_ns / 1000);
    else if (waited < w->timeout_ns && !w->wait->in_jiffies)
        deviation(w->check, "returned %ld early, after %" PRIu64 " us of %" PRIu64, result, waited / 1000, w->timeout_ns / 1000);
    if (waited > w->timeout_ns + late_ms * 1000000ull)
        w->check->late++;
}

static void check_woken(struct waiter *w, long result)
{
    if (w->posted == w->taken) {
        deviation(w->check, "returned %ld though nothing woke it", result);
        return;
    }
    if (result == -EINTR || !w->wait->woken(w, result)) {
        deviation(w->check, "returned %ld, which is not what woke it", result);
        return;
    }
    w->taken++;
}

static void wait_once(struct waiter *w)
{
    long arguments[6];
    uint64_t span_us = (longest_ms - shortest_ms) * 1000;
    w->timeout_ns = (shortest_ms * 1000 + next_random(&w->holder->random) % span_us) * 1000;
    if (w->wait->prepare == poll_timed || w->wait->prepare == epoll_timed || w->wait->prepare == epoll_masked)
        w->timeout_ns -= w->timeout_ns % 1000000; // these take milliseconds
    uint64_t began = now_ns();
    w->wait->prepare(w, arguments);
    long result = hold_syscall(w->holder, w->check, w->wait->number, arguments);
    if (w->wait->woken)
        check_woken(w, result);
    else
        check_timed(w, result, began, now_ns());
}

static void *wait_forever(void *argument)
{
    struct waiter *w = argument;
    struct signal_state signals;
    w->thread = gettid();
    w->holder = aligned_alloc(64, sizeof *w->holder);
    holder_init(w->holder, true);
    w->wait->open(w);
    signal_state_init(&signals);
    pthread_barrier_wait(&opened);
    for (;;) {
        wait_once(w);
        check_signal_state(&signals, w->check);
        held(w->check);
    }
    return NULL;
}

// Wakes each that has to be woken, once it has noticed that it was woken before.
static void *wake_forever(void *argument)
{
    uint64_t random = 0x5DEECE66D, noticed[wait_count] = { 0 }, due[wait_count] = { 0 };
    (void)argument;
    pthread_barrier_wait(&opened);
    for (;;) {
        uint64_t now = now_ns();
        for (size_t i = 0; i < wait_count; i++) {
            struct waiter *w = waiters[i];
            if (!w->wait->wake || w->taken < w->posted)
                continue;
            if (noticed[i] < w->posted) {
                noticed[i] = w->posted;
                due[i] = now + next_random(&random) % (longest_ms * 1000000ull);
            } else if (now >= due[i]) {
                w->posted++;
                w->wait->wake(w);
            }
        }
        sleep_ms(pause_ms);
    }
    return NULL;
}

void start_waits(void)
{
    pthread_barrier_init(&opened, NULL, wait_count + 1);
    for (size_t i = 0; i < wait_count; i++) {
        waiters[i] = aligned_alloc(64, (sizeof *waiters[i] + 63) / 64 * 64);
        memset(waiters[i], 0, sizeof *waiters[i]);
        waiters[i]->fd = -1; // 0 is a queue, or a semaphore, of somebody's
        waiters[i]->wait = &waits[i];
        waiters[i]->check = new_check("%s", waits[i].name);
        start_thread(wait_forever, waiters[i]);
    }
    start_thread(wake_forever, NULL);
}

void remove_waits(void)
{
    for (size_t i = 0; i < wait_count; i++) {
        if (waits[i].open == open_semaphore)
            semctl(waiters[i]->fd, 0, IPC_RMID);
        if (waits[i].open == open_messages)
            msgctl(waiters[i]->fd, IPC_RMID, NULL);
    }
}
