// How one would do it: stop all threads, and have one of them issue each ioctl by itself, one ptrace stop per ioctl; then put its
// registers back. It does not hold what KvmTsc has to hold, and is here for two reasons. The self-checking target must notice it,
// or else its checks could not fail. And it is what KvmTsc's stop time is compared with.
//
// naive PID [--count N] [--write A,B]    reads the clock and every vCPU's offset and frequency, or writes offset A, then B, and so on;
//                                        prints a line per attach: microseconds to stop, to issue, to release
// naive PID --write A,B --killed         does so until it is killed at a random instant of issuing, by the kernel, as it asked for
// naive PID --seize                      only traces all threads, until SIGTERM, as a debugger would
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { most_threads = 4096, most_vcpus = 1024, red_zone = 128 };

// What the ioctls read and write, below the stack of the thread that issues them.
struct arguments {
    struct kvm_clock_data clock;
    struct kvm_device_attr attribute;
    int64_t offset;
};

static pid_t process, threads[most_threads];
static int thread_count, vm = -1, vcpus[most_vcpus], vcpu_count;
static uint64_t syscall_address;

static void fail(const char *what)
{
    fprintf(stderr, "naive: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void find_descriptors(void)
{
    char path[300], target[64];
    snprintf(path, sizeof path, "/proc/%d/fd", process);
    DIR *directory = opendir(path);
    if (!directory)
        fail(path);
    for (struct dirent *entry; (entry = readdir(directory));) {
        snprintf(path, sizeof path, "/proc/%d/fd/%s", process, entry->d_name);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0)
            continue;
        target[length] = 0;
        int id;
        if (!strcmp(target, "anon_inode:kvm-vm"))
            vm = atoi(entry->d_name);
        else if (sscanf(target, "anon_inode:kvm-vcpu:%d", &id) == 1 && id < most_vcpus) {
            vcpus[id] = atoi(entry->d_name);
            vcpu_count++;
        }
    }
    closedir(directory);
}

// There is a syscall instruction in the vDSO.
static void find_syscall(void)
{
    char path[40], line[400];
    uint64_t begin, end;
    snprintf(path, sizeof path, "/proc/%d/maps", process);
    FILE *maps = fopen(path, "r");
    if (!maps)
        fail(path);
    while (fgets(line, sizeof line, maps)) {
        static uint8_t code[16384];
        if (!strstr(line, "[vdso]") || sscanf(line, "%lx-%lx", &begin, &end) != 2 || end - begin > sizeof code)
            continue;
        struct iovec local = { code, end - begin }, remote = { (void *)begin, end - begin };
        if (process_vm_readv(process, &local, 1, &remote, 1, 0) < 0)
            fail("process_vm_readv");
        uint8_t *found = memmem(code, end - begin, "\x0f\x05", 2);
        if (found)
            syscall_address = begin + (uint64_t)(found - code);
    }
    fclose(maps);
    if (!syscall_address)
        fail("no syscall instruction");
}

static void seize_all(void)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/task", process);
    DIR *directory = opendir(path);
    if (!directory)
        fail(path);
    thread_count = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        pid_t thread = atoi(entry->d_name);
        if (thread && thread_count < most_threads && !ptrace(PTRACE_SEIZE, thread, 0, 0))
            threads[thread_count++] = thread;
    }
    closedir(directory);
}

static void stop_all(void)
{
    seize_all();
    for (int i = 0; i < thread_count; i++)
        ptrace(PTRACE_INTERRUPT, threads[i], 0, 0);
    for (int i = 0; i < thread_count; i++)
        waitpid(threads[i], NULL, __WALL);
}

static void release_all(void)
{
    for (int i = 0; i < thread_count; i++)
        ptrace(PTRACE_DETACH, threads[i], 0, 0);
}

static void copy(struct arguments *arguments, uint64_t place, bool out)
{
    struct iovec local = { arguments, sizeof *arguments }, remote = { (void *)place, sizeof *arguments };
    if ((out ? process_vm_writev : process_vm_readv)(process, &local, 1, &remote, 1, 0) != sizeof *arguments)
        fail("process_vm_readv or process_vm_writev");
}

// One ioctl: one step over a syscall instruction.
static long issue(pid_t thread, const struct user_regs_struct *before, int descriptor, unsigned long request, uint64_t argument)
{
    struct user_regs_struct registers = *before;
    registers.rip = syscall_address;
    registers.rax = SYS_ioctl;
    registers.orig_rax = (unsigned long long)-1;
    registers.rdi = (unsigned long long)descriptor;
    registers.rsi = request;
    registers.rdx = argument;
    if (ptrace(PTRACE_SETREGS, thread, 0, &registers) || ptrace(PTRACE_SINGLESTEP, thread, 0, 0) || waitpid(thread, NULL, __WALL) != thread
        || ptrace(PTRACE_GETREGS, thread, 0, &registers))
        fail("ptrace");
    if ((long)registers.rax < 0) {
        errno = (int)-registers.rax;
        fprintf(stderr, "naive: ioctl %#lx: %s\n", request, strerror(errno));
    }
    return (long)registers.rax;
}

static void inject(pid_t thread, bool write, int64_t offset)
{
    struct user_regs_struct before;
    if (ptrace(PTRACE_GETREGS, thread, 0, &before))
        fail("PTRACE_GETREGS");
    uint64_t place = ((before.rsp - red_zone - sizeof(struct arguments)) & ~15ull);
    struct arguments arguments = {
        .attribute = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = place + offsetof(struct arguments, offset) },
        .offset = offset,
    };
    copy(&arguments, place, true);
    if (!write)
        issue(thread, &before, vm, KVM_GET_CLOCK, place);
    for (int i = 0; i < vcpu_count; i++) {
        issue(thread, &before, vcpus[i], write ? KVM_SET_DEVICE_ATTR : KVM_GET_DEVICE_ATTR, place + offsetof(struct arguments, attribute));
        if (!write)
            issue(thread, &before, vcpus[i], KVM_GET_TSC_KHZ, 0);
    }
    copy(&arguments, place, false);
    if (ptrace(PTRACE_SETREGS, thread, 0, &before))
        fail("PTRACE_SETREGS");
}

// A tracer that is killed between the waitpid for a signal's stop and its PTRACE_CONT takes the signal along. This one ends where it has consumed
// none: the kernel then lets the threads go, with what they are on their way to. (PTRACE_DETACH takes a stop first, which would end their waits.)
static void seize_until_terminated(void)
{
    sigset_t signals;
    int number;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    seize_all();
    printf("%d threads\n", thread_count);
    fflush(stdout);
    do {
        int status;
        pid_t thread;
        while ((thread = waitpid(-1, &status, __WALL | WNOHANG)) > 0)
            if (WIFSTOPPED(status))
                ptrace(PTRACE_CONT, thread, 0, status >> 16 ? 0 : WSTOPSIG(status));
        if (thread < 0)
            exit(0);
        sigwait(&signals, &number);
    } while (number != SIGTERM);
    exit(0);
}

static void be_killed_within(double microseconds)
{
    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
    struct itimerspec once = { .it_value = { 0, 1 + (long)(microseconds * 1e3 * (double)random() / RAND_MAX) } };
    once.it_value.tv_sec = once.it_value.tv_nsec / 1000000000;
    once.it_value.tv_nsec %= 1000000000;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &once, NULL))
        fail("timer_create");
}

int main(int count, char **arguments)
{
    enum { measured = 3, times_until_killed = 100 };
    int times = 1;
    bool write = false, killed = false;
    double shortest = 1e9;
    int64_t offsets[2] = { 0, 0 };
    for (int i = 2; i + 1 < count; i += 2) {
        if (!strcmp(arguments[i], "--count"))
            times = atoi(arguments[i + 1]);
        else if (!strcmp(arguments[i], "--write"))
            write = sscanf(arguments[i + 1], "%ld,%ld", &offsets[0], &offsets[1]) == 2;
    }
    if (count > 3 && !strcmp(arguments[count - 1], "--killed")) {
        killed = true;
        times = times_until_killed;
    }
    if (count < 2 || (process = atoi(arguments[1])) <= 0) {
        fprintf(stderr, "usage: naive PID [--count N] [--write A,B] | --seize\n");
        return 2;
    }
    if (count == 3 && !strcmp(arguments[2], "--seize"))
        seize_until_terminated();
    srandom((unsigned)getpid());
    find_descriptors();
    find_syscall();
    for (int i = 0; i < times; i++) {
        double began = now_us();
        stop_all();
        double stopped = now_us();
        if (killed && i >= measured)
            be_killed_within(shortest);
        inject(threads[random() % thread_count], write, offsets[i % 2]);
        double issued = now_us();
        shortest = issued - stopped < shortest ? issued - stopped : shortest;
        release_all();
        printf("%.1f %.1f %.1f\n", stopped - began, issued - stopped, now_us() - issued);
        fflush(stdout);
    }
    return 0;
}
