// What PTRACE_INTERRUPT does to a thread that waits in a system call: for each way to wait, a child of ours is seized, interrupted in it
// and continued at once. Prints the registers at the stop and whether the kernel went on waiting. No KvmTsc is involved: this is the
// measurement behind the executor's table of system calls that have to be begun again by hand.
//
// cc -O2 -Wall -Wextra -Werror -o interrupt interrupt.c && ./interrupt
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { wait_ms = 400, interrupt_after_ms = 150 };

static const struct timespec timeout = { 0, wait_ms * 1000000L };
static const struct timeval receive_timeout = { 0, wait_ms * 1000L };

// What the child says about its wait; shared with it.
static struct { volatile long result; volatile int error; volatile bool returned; volatile bool waiting; } *shared;

static int quiet_pipe(void)
{
    int ends[2];
    if (pipe(ends))
        _exit(99);
    return ends[0];
}

static int quiet_socket(bool timed, int option)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        _exit(99);
    if (timed)
        setsockopt(ends[0], SOL_SOCKET, option, &receive_timeout, sizeof receive_timeout);
    return ends[0];
}

static int listening_socket(bool timed)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int socket_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "interrupt-%d", getpid());
    if (bind(socket_fd, (struct sockaddr *)&address, sizeof address) || listen(socket_fd, 1))
        _exit(99);
    if (timed)
        setsockopt(socket_fd, SOL_SOCKET, SO_RCVTIMEO, &receive_timeout, sizeof receive_timeout);
    return socket_fd;
}

static int quiet_epoll(void)
{
    int epoll = epoll_create1(0);
    struct epoll_event event = { .events = EPOLLIN };
    epoll_ctl(epoll, EPOLL_CTL_ADD, quiet_pipe(), &event);
    return epoll;
}

static long set_error(long result) // of those that return it
{
    errno = (int)result;
    return result ? -1 : 0;
}

static long semaphore(const struct timespec *until)
{
    int id = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf down = { 0, -1, 0 };
    long result = semtimedop(id, &down, 1, until);
    int error = errno;
    semctl(id, 0, IPC_RMID);
    errno = error;
    return result;
}

static long message(void)
{
    struct { long type; char text[8]; } buffer;
    int id = msgget(IPC_PRIVATE, 0600);
    shared->result = id; // for the parent to remove
    return msgrcv(id, &buffer, sizeof buffer.text, 0, 0);
}

static long message_queue(const struct timespec *relative)
{
    char name[40], buffer[8];
    struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = sizeof buffer };
    struct timespec until;
    snprintf(name, sizeof name, "/interrupt-%d", getpid());
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT, 0600, &attributes);
    mq_unlink(name);
    clock_gettime(CLOCK_REALTIME, &until);
    if (relative)
        until.tv_nsec += relative->tv_nsec, until.tv_sec += until.tv_nsec / 1000000000, until.tv_nsec %= 1000000000;
    return relative ? mq_timedreceive(queue, buffer, sizeof buffer, NULL, &until) : mq_receive(queue, buffer, sizeof buffer, NULL);
}

static long signal_wait(const struct timespec *until)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return until ? sigtimedwait(&set, NULL, until) : sigwaitinfo(&set, NULL);
}

static long signal_suspend(void)
{
    sigset_t set;
    sigfillset(&set);
    return sigsuspend(&set);
}

static long wait_for_child(void)
{
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    shared->result = child; // for the parent to end
    return waitpid(child, NULL, 0);
}

static long lock_file(bool ofd, bool whole)
{
    char path[] = "/tmp/interrupt-XXXXXX";
    int one = mkstemp(path), two = open(path, O_RDWR);
    unlink(path);
    struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (whole)
        return flock(one, LOCK_EX) ? -1 : flock(two, LOCK_EX);
    return fcntl(one, F_OFD_SETLK, &all) ? -1 : fcntl(two, ofd ? F_OFD_SETLKW : F_SETLKW, &all);
}

static long full_pipe(void)
{
    static char block[65536];
    int ends[2];
    if (pipe(ends))
        return -1;
    while (write(ends[1], block, sizeof block) == sizeof block)
        ;
    return 0;
}

static long full_socket(bool timed)
{
    static char block[65536];
    int socket_fd = quiet_socket(timed, SO_SNDTIMEO);
    long sent;
    while ((sent = send(socket_fd, block, sizeof block, 0)) == sizeof block)
        ;
    return sent; // a part of a block, when the wait ended
}

static long asynchronous_io(const struct timespec *until)
{
    aio_context_t context = 0;
    struct io_event event;
    if (syscall(SYS_io_setup, 1, &context))
        return -1;
    return syscall(SYS_io_getevents, context, 1, 1, &event, until);
}

static long ring(void)
{
    struct io_uring_params parameters = { 0 };
    int fd = (int)syscall(SYS_io_uring_setup, 4, &parameters);
    return fd < 0 ? -1 : syscall(SYS_io_uring_enter, fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
}

static long ring_timed(void)
{
    struct io_uring_params parameters = { 0 };
    struct __kernel_timespec until = { 0, wait_ms * 1000000L };
    struct io_uring_getevents_arg argument = { .ts = (uint64_t)(uintptr_t)&until };
    int fd = (int)syscall(SYS_io_uring_setup, 4, &parameters);
    return fd < 0 ? -1 : syscall(SYS_io_uring_enter, fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument, sizeof argument);
}

static long futex(int operation, const struct timespec *until)
{
    static uint32_t word;
    return syscall(SYS_futex, &word, operation, 0, until, NULL, FUTEX_BITSET_MATCH_ANY);
}

static long futex_lock_pi(void)
{
    // Held by init, as far as the kernel can tell; it waits for whoever has that thread id.
    static uint32_t word;
    word = (uint32_t)getppid();
    return syscall(SYS_futex, &word, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
}

static long futex_waitv(const struct timespec *relative)
{
    static uint32_t word;
    struct { uint64_t value, address; uint32_t flags, reserved; } waiter = { 0, (uint64_t)(uintptr_t)&word, 2, 0 };
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    if (relative)
        until.tv_nsec += relative->tv_nsec, until.tv_sec += until.tv_nsec / 1000000000, until.tv_nsec %= 1000000000;
    return syscall(449, &waiter, 1, 0, relative ? &until : NULL, CLOCK_MONOTONIC);
}

static struct timespec deadline(clockid_t clock)
{
    struct timespec until;
    clock_gettime(clock, &until);
    until.tv_nsec += timeout.tv_nsec;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    return until;
}

static long sleep_until(clockid_t clock)
{
    struct timespec until = deadline(clock);
    return set_error(clock_nanosleep(clock, TIMER_ABSTIME, &until, NULL));
}

static long timer_read(void)
{
    uint64_t expirations;
    struct itimerspec once = { .it_value = timeout };
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    timerfd_settime(timer, 0, &once, NULL);
    return read(timer, &expirations, sizeof expirations);
}

static struct pollfd *quiet_pollfd(void)
{
    static struct pollfd one;
    one = (struct pollfd){ quiet_pipe(), POLLIN, 0 };
    return &one;
}

static long select_wait(bool timed)
{
    fd_set set;
    int fd = quiet_pipe();
    struct timeval until = receive_timeout;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    return select(fd + 1, &set, NULL, NULL, timed ? &until : NULL);
}

static long pselect_wait(bool timed)
{
    fd_set set;
    int fd = quiet_pipe();
    sigset_t mask;
    sigemptyset(&mask);
    FD_ZERO(&set);
    FD_SET(fd, &set);
    return pselect(fd + 1, &set, NULL, NULL, timed ? &timeout : NULL, &mask);
}

static long ppoll_wait(const struct timespec *until, bool masked)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    return ppoll(quiet_pollfd(), 1, until, masked ? &mask : NULL);
}

static long epoll_pwait_masked(int milliseconds)
{
    struct epoll_event event;
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    return epoll_pwait(quiet_epoll(), &event, 1, milliseconds, &mask);
}

static long event_read(void)
{
    uint64_t value;
    return read(eventfd(0, 0), &value, sizeof value);
}

static long pipe_read(void)
{
    char byte;
    return read(quiet_pipe(), &byte, 1);
}

static long inotify_wait(void)
{
    char buffer[400];
    int fd = inotify_init1(0);
    inotify_add_watch(fd, "/dev/null", IN_DELETE_SELF);
    return read(fd, buffer, sizeof buffer);
}

static long receive(bool timed)
{
    char byte;
    return recv(quiet_socket(timed, SO_RCVTIMEO), &byte, 1, 0);
}

static long receive_message(bool timed)
{
    char byte;
    struct iovec part = { &byte, 1 };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
    return recvmsg(quiet_socket(timed, SO_RCVTIMEO), &header, 0);
}

static long socket_read_timed(void)
{
    char byte;
    return read(quiet_socket(true, SO_RCVTIMEO), &byte, 1);
}

static long epoll(int milliseconds)
{
    struct epoll_event event;
    return epoll_wait(quiet_epoll(), &event, 1, milliseconds);
}

static long epoll2(const struct timespec *until)
{
    struct epoll_event event;
    return epoll_pwait2(quiet_epoll(), &event, 1, until, NULL);
}

static const struct timespec *until_monotonic(void)
{
    static struct timespec until;
    until = deadline(CLOCK_MONOTONIC);
    return &until;
}

// One way to wait, and whether it ends by itself after wait_ms.
static const struct { const char *name; bool timed; } names[] = {
#define WAIT(name, timed, expression) { name, timed },
#include "interrupt-waits.h"
#undef WAIT
};

static long wait_in(size_t which)
{
    size_t next = 0;
#define WAIT(name, timed, expression) if (which == next++) return expression;
#include "interrupt-waits.h"
#undef WAIT
    return -1;
}

static const char *error_name(long error)
{
    switch (error) {
    case 512: return "ERESTARTSYS";
    case 513: return "ERESTARTNOINTR";
    case 514: return "ERESTARTNOHAND";
    case 516: return "ERESTART_RESTARTBLOCK";
    default: return strerrorname_np((int)error) ? strerrorname_np((int)error) : "?";
    }
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void sleep_ms(int milliseconds)
{
    usleep((useconds_t)milliseconds * 1000);
}

static void be_child(size_t which)
{
    shared->waiting = true;
    errno = 0;
    long result = wait_in(which);
    shared->error = errno;
    shared->result = result;
    shared->returned = true;
    for (;;)
        pause();
}

static void interrupt_once(size_t which)
{
    char row[200];
    struct user_regs_struct registers;
    int status;
    memset(shared, 0, sizeof *shared);
    pid_t child = fork();
    if (child == 0)
        be_child(which);

    double began = now_ms();
    while (!shared->waiting)
        sleep_ms(1);
    sleep_ms(interrupt_after_ms);
    if (shared->returned) {
        printf("%-44s could not wait: result %ld, %s\n", names[which].name, shared->result, error_name(shared->error));
        goto end;
    }
    if (ptrace(PTRACE_SEIZE, child, 0, 0) || ptrace(PTRACE_INTERRUPT, child, 0, 0) || waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) {
        printf("%-44s could not be stopped: %m\n", names[which].name);
        goto end;
    }
    ptrace(PTRACE_GETREGS, child, 0, &registers);
    long at_stop = (long)registers.rax;
    ptrace(PTRACE_DETACH, child, 0, 0);

    double limit = now_ms() + (names[which].timed ? 3 * wait_ms : 200);
    while (!shared->returned && now_ms() < limit)
        sleep_ms(1);
    snprintf(row, sizeof row, "%-44s %4lld  %4ld %-22s", names[which].name, (long long)registers.orig_rax, at_stop,
        at_stop < 0 && at_stop > -4096 ? error_name(-at_stop) : "");
    if (!shared->returned)
        printf("%s goes on waiting\n", row);
    else if (shared->error == EINTR || !names[which].timed)
        printf("%s RETURNED %ld, %s\n", row, shared->result, shared->result < 0 ? error_name(shared->error) : "");
    else
        printf("%s ended after %.0f of %d ms: %ld, %s\n", row, now_ms() - began, wait_ms, shared->result, shared->result < 0 ? error_name(shared->error) : "");
end:
    if (!shared->returned && strstr(names[which].name, "waitpid"))
        kill((pid_t)shared->result, SIGKILL);
    if (!shared->returned && strstr(names[which].name, "msgrcv"))
        msgctl((int)shared->result, IPC_RMID, NULL);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

int main(void)
{
    struct utsname system;
    uname(&system);
    setvbuf(stdout, NULL, _IOLBF, 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    printf("Linux %s, PTRACE_SEIZE + PTRACE_INTERRUPT + PTRACE_DETACH\n", system.release);
    printf("%-44s %s  %s\n", "waits in", "orig_rax", "rax at the stop, and then");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        interrupt_once(i);
    return 0;
}
