/*
 * A process with VMs, built as its arguments say, one after the other:
 *
 *   vm              creates a VM
 *   vcpu N ID       creates a vCPU of a VM
 *   dup N           duplicates a descriptor
 *   open            takes a descriptor, of /dev/null
 *   close N         closes a descriptor
 *   halt N, spin N  runs a vCPU in a thread, named vcpuID, that halts or goes round in circles
 *   late N          runs a vCPU as spin does, in a thread that can be paused
 *   stuck           has a thread that no signal interrupts, until told
 *   idle            has a thread that waits
 *   decoy N         has a thread that waits, named as that of a vCPU
 *   busy            has a thread that reads all the time
 *   epoll           has a thread that waits until something, a stop, ends its wait, and then ends
 *   thread          has another thread, which ends, do the rest up to "join"
 *   fork            forks a child that keeps all descriptors
 *   filter          forbids itself a system call by seccomp
 *   strict          forbids itself to set offsets by seccomp, as a VMM does that knows its own ioctls
 *   user ID         becomes another user
 *
 * It prints "descriptor D", "thread TID" and "child PID" for what comes into being, and N counts those descriptors, from 0. At the end it
 * prints "ready" and waits for its standard input to end; there, a digit N spins a vCPU, u ends being stuck, p pauses the late vCPU, whose thread is seconds
 * on its way from the guest to where it waits, r resumes it, c creates the next vCPU of the last VM, and b sets that VM's kvmclock back by a second, k by eight,
 * and t the TSC of its late vCPU by three.
 */

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CODE 0x1000

static int kvm, last_vm, last_vcpu_count, late_vcpu, descriptors[64], ids[64], count;
static struct kvm_run *late;
static pthread_t late_thread;
static sem_t resumed;
static volatile pid_t blocking;
static sem_t printed;
static char **argument;

static int must(int result, const char *what)
{
    if (result < 0)
        err(1, "%s", what);
    return result;
}

static void add(int descriptor, int id)
{
    descriptors[count] = descriptor;
    ids[count++] = id;
    printf("descriptor %d\n", descriptor);
}

static void create_vm(void)
{
    int vm = must(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    uint8_t *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region region = {.guest_phys_addr = CODE, .memory_size = 4096, .userspace_addr = (uintptr_t)memory};

    memcpy(memory, "\xf4\xeb\xfe", 3); /* halt: hlt; spin: jmp spin */
    last_vm = vm;
    last_vcpu_count = 0;
    must(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
    must(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
    must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    add(vm, -1);
}

static void create_vcpu(int vm, int id)
{
    add(must(ioctl(vm, KVM_CREATE_VCPU, id), "KVM_CREATE_VCPU"), id);
    last_vcpu_count++;
}

static void *run(void *fd)
{
    printf("thread %d\n", (int)syscall(SYS_gettid));
    sem_post(&printed);
    while (1)
        ioctl((int)(intptr_t)fd, KVM_RUN, 0);
    return NULL;
}

static void leave_guest(int signal)
{
    (void)signal;
    late->immediate_exit = 1;
}

static void be_busy_for(int seconds)
{
    struct timespec now;
    time_t end;

    clock_gettime(CLOCK_MONOTONIC, &now);
    for (end = now.tv_sec + seconds; now.tv_sec < end; clock_gettime(CLOCK_MONOTONIC, &now))
        ;
}

static void *run_late(void *fd)
{
    printf("thread %d\n", (int)syscall(SYS_gettid));
    sem_post(&printed);
    while (1) {
        while (!late->immediate_exit)
            ioctl((int)(intptr_t)fd, KVM_RUN, 0);
        be_busy_for(5);
        while (sem_wait(&resumed) < 0)
            ;
        late->immediate_exit = 0;
    }
    return NULL;
}

static void set_clock_back(unsigned int seconds)
{
    struct kvm_clock_data data = {0};

    must(ioctl(last_vm, KVM_GET_CLOCK, &data), "KVM_GET_CLOCK");
    data.flags = 0;
    data.clock -= seconds * 1000000000ull;
    must(ioctl(last_vm, KVM_SET_CLOCK, &data), "KVM_SET_CLOCK");
}

static void set_tsc_back(unsigned int seconds)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } tsc = {.head.nmsrs = 1, .entry.index = 0x10};

    must(ioctl(late_vcpu, KVM_GET_MSRS, &tsc), "KVM_GET_MSRS");
    tsc.entry.data -= (uint64_t)seconds * 1000 * (unsigned int)must(ioctl(late_vcpu, KVM_GET_TSC_KHZ, 0), "KVM_GET_TSC_KHZ");
    must(ioctl(late_vcpu, KVM_SET_MSRS, &tsc), "KVM_SET_MSRS");
}

static pthread_t start_in(void *(*work)(void *), int number, int spin)
{
    int fd = descriptors[number];
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = CODE + spin, .rflags = 2};
    struct kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
    pthread_t thread;
    char name[16];

    must(ioctl(fd, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.cs.base = sregs.cs.selector = 0;
    must(ioctl(fd, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    must(ioctl(fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
    must(ioctl(fd, KVM_SET_MP_STATE, &runnable), "KVM_SET_MP_STATE");
    pthread_create(&thread, NULL, work, (void *)(intptr_t)fd);
    snprintf(name, sizeof name, "vcpu%d", ids[number]);
    pthread_setname_np(thread, name);
    sem_wait(&printed);
    return thread;
}

static void start(int number, int spin)
{
    start_in(run, number, spin);
}

static void start_late(int number)
{
    struct sigaction action = {.sa_handler = leave_guest};

    late_vcpu = descriptors[number];
    late = mmap(NULL, must(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE"), PROT_READ | PROT_WRITE, MAP_SHARED, late_vcpu, 0);
    sigaction(SIGUSR1, &action, NULL);
    late_thread = start_in(run_late, number, 1);
}

static void *be_stuck(void *unused)
{
    printf("thread %d\n", (int)syscall(SYS_gettid));
    if (vfork() == 0) {
        blocking = getpid();
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sem_post(&printed);
        while (1)
            pause();
    }
    return unused;
}

static void *be_idle(void *unused)
{
    static sem_t never;

    sem_post(&printed);
    sem_wait(&never);
    return unused;
}

static void *be_decoy(void *name)
{
    pthread_setname_np(pthread_self(), name);
    return be_idle(NULL);
}

static void *be_busy(void *unused)
{
    static char block[32768];
    int zero = open("/dev/zero", O_RDONLY);

    sem_post(&printed);
    while (read(zero, block, sizeof block) > 0)
        ;
    return unused;
}

/* The kernel does not restart this wait by itself; see signal(7). */
static void *be_polling(void *unused)
{
    struct epoll_event event;
    int fd = epoll_create1(0);

    printf("thread %d\n", (int)syscall(SYS_gettid));
    sem_post(&printed);
    epoll_wait(fd, &event, 1, -1);
    return unused;
}

static void add_thread(void *(*work)(void *), void *argument)
{
    pthread_t thread;

    pthread_create(&thread, NULL, work, argument);
    sem_wait(&printed);
}

static void filter(int at, unsigned int forbidden)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, forbidden, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};

    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "PR_SET_SECCOMP");
}

static void become(uid_t user)
{
    must(setresgid(user, user, user), "setresgid");
    must(setresuid(user, user, user), "setresuid");
    must(prctl(PR_SET_DUMPABLE, 1), "PR_SET_DUMPABLE"); /* as if it had begun as that user */
}

static int next_number(void)
{
    return atoi(*++argument);
}

static int next_descriptor(void)
{
    return descriptors[next_number()];
}

static void *follow(void *unused);

static void in_thread(void)
{
    pthread_t thread;

    argument++;
    pthread_create(&thread, NULL, follow, NULL);
    pthread_join(thread, NULL);
}

static void fork_child(void)
{
    pid_t child = must(fork(), "fork");

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (1)
            pause();
    }
    printf("child %d\n", child);
}

static void finish(void)
{
    char byte;

    puts("ready");
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        if (byte >= '0' && byte <= '9')
            start(byte - '0', 1);
        else if (byte == 'u')
            kill(blocking, SIGKILL);
        else if (byte == 'p')
            pthread_kill(late_thread, SIGUSR1);
        else if (byte == 'r')
            sem_post(&resumed);
        else if (byte == 'c')
            create_vcpu(last_vm, last_vcpu_count);
        else if (byte == 'b')
            set_clock_back(1);
        else if (byte == 'k')
            set_clock_back(8);
        else if (byte == 't')
            set_tsc_back(3);
    _exit(0);
}

static void *follow(void *unused)
{
    for (; *argument; argument++) {
        if (!strcmp(*argument, "vm"))
            create_vm();
        else if (!strcmp(*argument, "vcpu")) {
            int vm = next_descriptor();
            create_vcpu(vm, next_number());
        } else if (!strcmp(*argument, "dup"))
            add(must(dup(next_descriptor()), "dup"), -1);
        else if (!strcmp(*argument, "close"))
            must(close(next_descriptor()), "close");
        else if (!strcmp(*argument, "open"))
            add(must(open("/dev/null", O_RDONLY), "open"), -1);
        else if (!strcmp(*argument, "halt"))
            start(next_number(), 0);
        else if (!strcmp(*argument, "spin"))
            start(next_number(), 1);
        else if (!strcmp(*argument, "late"))
            start_late(next_number());
        else if (!strcmp(*argument, "stuck"))
            add_thread(be_stuck, NULL);
        else if (!strcmp(*argument, "epoll"))
            add_thread(be_polling, NULL);
        else if (!strcmp(*argument, "idle"))
            add_thread(be_idle, NULL);
        else if (!strcmp(*argument, "busy"))
            add_thread(be_busy, NULL);
        else if (!strcmp(*argument, "decoy")) {
            static char name[16];
            snprintf(name, sizeof name, "vcpu%d", next_number());
            add_thread(be_decoy, name);
        }
        else if (!strcmp(*argument, "thread"))
            in_thread();
        else if (!strcmp(*argument, "join"))
            break;
        else if (!strcmp(*argument, "fork"))
            fork_child();
        else if (!strcmp(*argument, "filter"))
            filter(offsetof(struct seccomp_data, nr), SYS_chroot);
        else if (!strcmp(*argument, "strict"))
            filter(offsetof(struct seccomp_data, args[1]), KVM_SET_DEVICE_ATTR);
        else if (!strcmp(*argument, "user"))
            become(next_number());
        else
            errx(1, "%s?", *argument);
        fflush(stdout);
    }
    return unused;
}

int main(int argc, char **argv)
{
    (void)argc;
    kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    argument = argv + 1;
    follow(NULL);
    finish();
}
