// A VMM with many vCPUs, all of them idle in KVM_RUN, which reads its clocks itself. It says "ready", and then does what its standard input
// says, a word a line:
//   read, restore, offsets
//            stops its vCPUs, and issues the ioctls that reading clocks, a restore, or reading and writing all offsets consists of; prints the
//            microseconds of the ioctls, and of having all vCPUs go on
//   pause    stops its vCPUs, and says "done"
//   cont     has them go on, and sets kvmclock back to where it stood, as QEMU does; prints CLOCK_REALTIME of that, in nanoseconds
//   time     times what a VMM does that a watch's tracepoints are in, again and again; prints the medians in nanoseconds, of
//            KVM_SET_CLOCK, of KVM_SET_MSRS with IA32_TSC, and of a KVM_RUN in which the guest writes to a port
//   lost     prints the nanoseconds that kvmclock lost since the start, by CLOCK_MONOTONIC_RAW
//   quit     ends; so does the end of the input
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { most_vcpus = 512, memory_size = 0x10000, port_loop = 0x10, times = 301 };

struct vcpu {
    int fd;
    struct kvm_run *run;
    pthread_t thread;
};

static struct vcpu vcpus[most_vcpus];
static int vm, count;
static uint64_t offsets[most_vcpus];
static struct kvm_clock_data stopped_clock;
static _Atomic bool wants_stop;
static _Atomic int stopped;
static bool wants_exits;
static double duration_us[times];
static double first_raw_us;
static uint64_t first_clock;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "vmm: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void ignore(int signal)
{
    (void)signal;
}

static void wait_stopped(void)
{
    pthread_mutex_lock(&lock);
    stopped++;
    pthread_cond_broadcast(&changed);
    while (wants_stop)
        pthread_cond_wait(&changed, &lock);
    stopped--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void go_to(struct vcpu *vcpu, uint64_t address)
{
    struct kvm_regs general = { .rflags = 2, .rip = address };
    require(!ioctl(vcpu->fd, KVM_SET_REGS, &general), "KVM_SET_REGS");
}

// On the vCPU's own thread, as a VMM has it. A KVM_RUN that a signal or a tracer ended does not count.
static void time_exits(struct vcpu *vcpu)
{
    struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE }; // it has halted
    require(!ioctl(vcpu->fd, KVM_SET_MP_STATE, &runnable), "KVM_SET_MP_STATE");
    go_to(vcpu, port_loop);
    for (int i = 0; i < times;) {
        double began = now_us();
        int result = ioctl(vcpu->fd, KVM_RUN, 0);
        require(!result || errno == EINTR || errno == EAGAIN, "KVM_RUN");
        if (!result && vcpu->run->exit_reason == KVM_EXIT_IO)
            duration_us[i++] = now_us() - began;
    }
    go_to(vcpu, 0);
    pthread_mutex_lock(&lock);
    wants_exits = false;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

// Halted by its guest, or not yet started by the boot processor: either way KVM_RUN waits.
static void *run(void *argument)
{
    struct vcpu *vcpu = argument;
    for (;;) {
        int result = ioctl(vcpu->fd, KVM_RUN, 0);
        require(!result || errno == EINTR || errno == EAGAIN, "KVM_RUN");
        if (wants_stop) {
            vcpu->run->immediate_exit = 0;
            wait_stopped();
            if (wants_exits && vcpu == vcpus)
                time_exits(vcpu);
        }
    }
    return NULL;
}

static void await_stopped(int expected)
{
    pthread_mutex_lock(&lock);
    while (stopped != expected)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void get_clock(struct kvm_clock_data *clock)
{
    require(!ioctl(vm, KVM_GET_CLOCK, clock), "KVM_GET_CLOCK");
}

static void do_offsets(unsigned long request)
{
    for (int i = 0; i < count; i++) {
        struct kvm_device_attr attribute = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offsets[i] };
        require(!ioctl(vcpus[i].fd, request, &attribute), "KVM_VCPU_TSC_OFFSET");
    }
}

static void read_all(void)
{
    struct kvm_clock_data clock;
    get_clock(&clock);
    do_offsets(KVM_GET_DEVICE_ATTR);
    for (int i = 0; i < count; i++)
        require(ioctl(vcpus[i].fd, KVM_GET_TSC_KHZ, 0) > 0, "KVM_GET_TSC_KHZ");
}

static void restore_all(void)
{
    enum { settings = 3 };
    struct kvm_clock_data clock;
    read_all();
    do_offsets(KVM_SET_DEVICE_ATTR);
    for (int i = 0; i < settings; i++) {
        get_clock(&clock);
        clock.flags = 0;
        require(!ioctl(vm, KVM_SET_CLOCK, &clock), "KVM_SET_CLOCK");
    }
    get_clock(&clock);
    do_offsets(KVM_SET_DEVICE_ATTR);
    read_all();
}

static void read_and_write_offsets(void)
{
    do_offsets(KVM_GET_DEVICE_ATTR);
    do_offsets(KVM_SET_DEVICE_ATTR);
}

static void stop_vcpus(void)
{
    wants_stop = true;
    for (int i = 0; i < count; i++) {
        vcpus[i].run->immediate_exit = 1;
        pthread_kill(vcpus[i].thread, SIGUSR1);
    }
    await_stopped(count);
}

static void release_vcpus(void)
{
    pthread_mutex_lock(&lock);
    wants_stop = false;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    await_stopped(0);
}

static void time_stopped(void (*issue)(void))
{
    stop_vcpus();
    double began = now_us();
    issue();
    double issued = now_us();
    release_vcpus();
    printf("%.1f %.1f\n", issued - began, now_us() - issued);
}

static int compare(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

static double median_ns(void)
{
    qsort(duration_us, times, sizeof *duration_us, compare);
    return duration_us[times / 2] * 1000;
}

// kvmclock where it would be had nobody set it.
static void set_clock(void)
{
    struct kvm_clock_data clock = { .clock = first_clock + (uint64_t)((now_us() - first_raw_us) * 1000) };
    require(!ioctl(vm, KVM_SET_CLOCK, &clock), "KVM_SET_CLOCK");
}

static void time_events(void)
{
    for (int i = 0; i < times; i++) {
        double began = now_us();
        set_clock();
        duration_us[i] = now_us() - began;
    }
    double clock = median_ns();

    // KVM takes what is written within a second of the TSC's due for a synchronisation, and leaves it where it was.
    struct { struct kvm_msrs header; struct kvm_msr_entry entry; } msrs = { .header.nmsrs = 1, .entry.index = 0x10 };
    stop_vcpus();
    for (int i = 0; i < times; i++) {
        require(ioctl(vcpus[0].fd, KVM_GET_MSRS, &msrs) == 1, "KVM_GET_MSRS");
        double began = now_us();
        require(ioctl(vcpus[0].fd, KVM_SET_MSRS, &msrs) == 1, "KVM_SET_MSRS");
        duration_us[i] = now_us() - began;
    }
    double tsc = median_ns();

    wants_exits = true;
    release_vcpus();
    pthread_mutex_lock(&lock);
    while (wants_exits)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    printf("%.0f %.0f %.0f\n", clock, tsc, median_ns());
}

// kvmclock, and the time of it: nothing may come in between.
static double read_clock(struct kvm_clock_data *clock)
{
    double before, after;
    do {
        before = now_us();
        get_clock(clock);
        after = now_us();
    } while (after - before > 100);
    return (before + after) / 2;
}

// KVM turns its master clock on when a vCPU runs, and has kvmclock by another clock before.
static void begin_clock(void)
{
    struct kvm_clock_data clock;
    for (int looks = 0; looks < 100; looks++) {
        first_raw_us = read_clock(&clock);
        if (clock.flags & KVM_CLOCK_HOST_TSC)
            break;
        usleep(10000);
    }
    first_clock = clock.clock;
}

static void tell_lost(void)
{
    struct kvm_clock_data clock;
    double raw_us = read_clock(&clock);
    printf("%.0f\n", (raw_us - first_raw_us) * 1000 - (double)(clock.clock - first_clock));
}

static void pause_clock(void)
{
    stop_vcpus();
    get_clock(&stopped_clock);
    puts("done");
}

static void continue_clock(void)
{
    struct timespec now;
    stopped_clock.flags = 0;
    require(!ioctl(vm, KVM_SET_CLOCK, &stopped_clock), "KVM_SET_CLOCK");
    clock_gettime(CLOCK_REALTIME, &now);
    release_vcpus();
    printf("%ld%09ld\n", now.tv_sec, now.tv_nsec);
}

static void create(int kvm)
{
    struct kvm_userspace_memory_region region = { .memory_size = memory_size };
    uint64_t identity_map = 0xFFFBC000;
    vm = ioctl(kvm, KVM_CREATE_VM, 0);
    require(vm >= 0, "KVM_CREATE_VM");
    require(!ioctl(vm, KVM_SET_TSS_ADDR, 0xFFFBD000ul), "KVM_SET_TSS_ADDR");
    require(!ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map), "KVM_SET_IDENTITY_MAP_ADDR");
    // KVM's own interrupt controllers have a halted vCPU wait in the kernel.
    require(!ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
    uint8_t *memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(memory != MAP_FAILED, "mmap");
    memcpy(memory, "\xf4\xeb\xfd", 3); // hlt; jmp back
    memcpy(memory + port_loop, "\xe6\x80\xeb\xfc", 4); // out 0x80, al; jmp back
    region.userspace_addr = (uintptr_t)memory;
    require(!ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    for (int i = 0; i < count; i++) {
        vcpus[i].fd = ioctl(vm, KVM_CREATE_VCPU, i);
        require(vcpus[i].fd >= 0, "KVM_CREATE_VCPU");
        vcpus[i].run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpus[i].fd, 0);
        require(vcpus[i].run != MAP_FAILED, "mmap of a vCPU");
    }
    struct kvm_sregs special;
    struct kvm_regs general = { .rflags = 2 };
    require(!ioctl(vcpus[0].fd, KVM_GET_SREGS, &special), "KVM_GET_SREGS");
    special.cs.base = special.cs.selector = 0;
    require(!ioctl(vcpus[0].fd, KVM_SET_SREGS, &special), "KVM_SET_SREGS");
    require(!ioctl(vcpus[0].fd, KVM_SET_REGS, &general), "KVM_SET_REGS");
}

int main(int arguments, char **values)
{
    char line[40];
    count = arguments > 1 ? atoi(values[1]) : 64;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    require(kvm >= 0 && count > 0 && count <= most_vcpus, "/dev/kvm");
    struct sigaction action = { .sa_handler = ignore };
    sigaction(SIGUSR1, &action, NULL);
    create(kvm);
    for (int i = 0; i < count; i++)
        require(!pthread_create(&vcpus[i].thread, NULL, run, &vcpus[i]), "pthread_create");
    begin_clock();
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (!strcmp(line, "read\n"))
            time_stopped(read_all);
        else if (!strcmp(line, "restore\n"))
            time_stopped(restore_all);
        else if (!strcmp(line, "offsets\n"))
            time_stopped(read_and_write_offsets);
        else if (!strcmp(line, "pause\n"))
            pause_clock();
        else if (!strcmp(line, "cont\n"))
            continue_clock();
        else if (!strcmp(line, "time\n"))
            time_events();
        else if (!strcmp(line, "lost\n"))
            tell_lost();
        else if (!strcmp(line, "quit\n"))
            break;
        fflush(stdout);
    }
    return 0;
}
