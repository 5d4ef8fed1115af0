// A VM and its vCPU threads, as a VMM has them.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checks.h"
#include "guest.h"
#include "hold.h"
#include "parts.h"

enum { memory_size = 0x10000, blocks_at = 0x1000, most_vcpus = 512, nap_ms = 10, kick_signal = 43 };

struct vcpu {
    int id, fd;
    struct kvm_run *run;
    struct block *block;
    const struct kind *kind;
    struct check *check;       // of its thread
    struct check *guest_check; // of its guest
    struct receiver *receiver;
    struct holder *holder;
    struct signal_state signals;
    uint64_t exits, guest_iterations;
    uint32_t violations;
    pthread_t thread;
    _Atomic uint32_t kicks; // a futex that a paused thread waits for
    _Atomic uint32_t writes; // of immediate_exit by others, counted before each and after it: odd meanwhile
    _Atomic bool paused, wants_offset;
    int64_t offset;
};

// What a guest does between two looks at its TSC, and how its exits are handled.
struct kind {
    const char *name;
    const uint8_t *code;
    void (*handle)(struct vcpu *);
};

static uint8_t *memory;
static int kvm, vm = -1, count;
static struct vcpu vcpus[most_vcpus];
static struct check *offset_check;
static uint64_t clock_at_pause;

static void require(bool holds, const char *what)
{
    if (!holds)
        die(what);
}

int vm_descriptor(void)
{
    return vm;
}

// --- exits

static void unexpected_exit(struct vcpu *vcpu)
{
    deviation(vcpu->check, "KVM_RUN ended with exit reason %u", vcpu->run->exit_reason);
}

static void nap(struct vcpu *vcpu)
{
    struct timespec time = { 0, nap_ms * 1000000L };
    uint64_t runs = handler_runs(vcpu->receiver);
    long result = hold_syscall(vcpu->holder, vcpu->check, SYS_nanosleep, (long[6]){ (long)(uintptr_t)&time, 0 });
    bool interrupted = result == -EINTR && handler_runs(vcpu->receiver) > runs;
    if (result && !interrupted)
        deviation(vcpu->check, "nanosleep returned %ld, and no handler ran", result);
}

static void handle_halt(struct vcpu *vcpu)
{
    if (vcpu->run->exit_reason != KVM_EXIT_HLT)
        unexpected_exit(vcpu);
    else if (++vcpu->exits != vcpu->block->iterations)
        deviation(vcpu->check, "the guest went round %" PRIu64 " times, and halted %" PRIu64 " times", vcpu->block->iterations, vcpu->exits);
    nap(vcpu);
}

// The guest writes a counter and reads its complement.
static void handle_access(struct vcpu *vcpu, bool write, void *data, size_t size)
{
    uint32_t value;
    if (size != sizeof value) {
        deviation(vcpu->check, "the guest accessed %zu bytes", size);
        return;
    }
    if (write) {
        memcpy(&value, data, sizeof value);
        if (value != (uint32_t)++vcpu->exits)
            deviation(vcpu->check, "the guest wrote %u, the last time %u", value, (uint32_t)vcpu->exits - 1);
        return;
    }
    value = ~(uint32_t)vcpu->exits;
    memcpy(data, &value, sizeof value);
    nap(vcpu);
}

static void handle_port(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != GUEST_PORT || run->io.count != 1)
        unexpected_exit(vcpu);
    else
        handle_access(vcpu, run->io.direction == KVM_EXIT_IO_OUT, (char *)run + run->io.data_offset, run->io.size);
}

static void handle_device(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.phys_addr != (run->mmio.is_write ? GUEST_DEVICE : GUEST_DEVICE + 4))
        unexpected_exit(vcpu);
    else
        handle_access(vcpu, run->mmio.is_write, run->mmio.data, run->mmio.len);
}

static const struct kind kinds[] = {
    { "spins", guest_spin, unexpected_exit },
    { "halts", guest_halt, handle_halt },
    { "uses a port", guest_port, handle_port },
    { "uses a device", guest_device, handle_device },
};

// --- a vCPU's thread

static void check_guest(struct vcpu *vcpu)
{
    struct block *block = vcpu->block;
    uint32_t violations = block->violations;
    if (violations != vcpu->violations) {
        deviation(vcpu->guest_check, "%u times the TSC went backwards, the last time by %" PRIu64 ", or the VMM answered wrongly", violations - vcpu->violations, block->step);
        vcpu->violations = violations;
    }
    if (block->iterations < vcpu->guest_iterations)
        deviation(vcpu->guest_check, "it had gone round %" PRIu64 " times, and has %" PRIu64 " times", vcpu->guest_iterations, block->iterations);
    if (block->iterations != vcpu->guest_iterations)
        held(vcpu->guest_check);
    vcpu->guest_iterations = block->iterations;
}

static void run_once(struct vcpu *vcpu)
{
    uint32_t writes = vcpu->writes;
    long result = hold_syscall(vcpu->holder, vcpu->check, SYS_ioctl, (long[6]){ vcpu->fd, KVM_RUN, 0 });
    bool at_once = vcpu->run->immediate_exit || writes % 2 || vcpu->writes != writes; // that it was set may be over
    if (result == -EINTR) {
        vcpu->run->immediate_exit = 0;
        if (!at_once && vcpu->run->exit_reason != KVM_EXIT_INTR)
            deviation(vcpu->check, "KVM_RUN was interrupted with exit reason %u", vcpu->run->exit_reason);
    } else if (result) {
        deviation(vcpu->check, "KVM_RUN returned %ld", result);
    } else {
        vcpu->kind->handle(vcpu);
    }
    check_guest(vcpu);
    check_signal_state(&vcpu->signals, vcpu->check);
    held(vcpu->check);
}

static void wait_paused(struct vcpu *vcpu, uint32_t kicks)
{
    const long arguments[6] = { (long)(uintptr_t)&vcpu->kicks, FUTEX_WAIT_PRIVATE, kicks, 0 };
    vcpu->check->idle = vcpu->guest_check->idle = true;
    long result = hold_syscall(vcpu->holder, vcpu->check, SYS_futex, arguments);
    if ((result && result != -EAGAIN) || vcpu->kicks == kicks)
        deviation(vcpu->check, "the futex of a paused vCPU returned %ld, and nothing had woken it", result);
    check_signal_state(&vcpu->signals, vcpu->check);
    vcpu->check->idle = vcpu->guest_check->idle = vcpu->paused;
    held(vcpu->check);
}

static void answer_offset(struct vcpu *vcpu)
{
    struct kvm_device_attr attribute = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&vcpu->offset };
    if (ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attribute))
        deviation(offset_check, "KVM_GET_DEVICE_ATTR of vCPU %d: errno %d", vcpu->id, errno);
    vcpu->wants_offset = false;
}

static void *run_vcpu(void *argument)
{
    struct vcpu *vcpu = argument;
    sigset_t kick;
    holder_init(vcpu->holder, false);
    begin_receiving(vcpu->receiver);
    sigemptyset(&kick);
    sigaddset(&kick, kick_signal);
    pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
    signal_state_init(&vcpu->signals);
    if (options.paused)
        run_once(vcpu);
    for (;;) {
        uint32_t kicks = vcpu->kicks;
        if (vcpu->wants_offset)
            answer_offset(vcpu);
        if (vcpu->paused)
            wait_paused(vcpu, kicks);
        else
            run_once(vcpu);
    }
    return NULL;
}

static void take_kick(int signal)
{
    (void)signal;
    handler_ran();
}

static void set_immediate_exit(struct vcpu *vcpu, bool at_once)
{
    vcpu->writes++;
    vcpu->run->immediate_exit = at_once;
    vcpu->writes++;
}

static void interrupt(struct vcpu *vcpu)
{
    set_immediate_exit(vcpu, true);
    if (options.late_kicks)
        sleep_ms(2 * nap_ms);
    pthread_kill(vcpu->thread, kick_signal);
}

// Gets a vCPU's thread out of KVM_RUN or its futex.
static void kick(struct vcpu *vcpu)
{
    vcpu->kicks++;
    syscall(SYS_futex, &vcpu->kicks, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    if (vcpu->paused)
        return; // a waiting thread is not interrupted by a signal on top
    interrupt(vcpu);
}

// --- pauses

static struct kvm_clock_data read_clock(void)
{
    struct kvm_clock_data clock = { 0 };
    require(!ioctl(vm, KVM_GET_CLOCK, &clock), "KVM_GET_CLOCK");
    return clock;
}

void print_clock(FILE *to)
{
    struct kvm_clock_data clock = read_clock();
    fprintf(to, "{\"clock\":%" PRIu64 ",\"realtime\":%" PRIu64 ",\"flags\":%u}\n", (uint64_t)clock.clock, (uint64_t)clock.realtime, clock.flags);
    fflush(to);
}

static void stop_clock(void)
{
    for (int i = 0; i < count; i++) {
        while (!vcpus[i].check->idle)
            sleep_ms(1);
    }
    clock_at_pause = read_clock().clock;
}

static void start_clock(void)
{
    struct kvm_clock_data clock = { .clock = clock_at_pause };
    require(!ioctl(vm, KVM_SET_CLOCK, &clock), "KVM_SET_CLOCK");
}

void pause_vcpus(bool paused)
{
    if (options.stop_clock && !paused)
        start_clock();
    for (int i = 0; i < count; i++) {
        if (paused) {
            vcpus[i].paused = true;
            interrupt(&vcpus[i]);
        } else {
            vcpus[i].paused = false;
            set_immediate_exit(&vcpus[i], false);
            kick(&vcpus[i]);
        }
    }
    if (options.stop_clock && paused)
        stop_clock();
}

// --- offsets

void print_offsets(FILE *to)
{
    int matching[2] = { 0, 0 };
    for (int i = 0; i < count; i++) {
        vcpus[i].wants_offset = true;
        kick(&vcpus[i]);
    }
    fprintf(to, "{\"offsets\":[");
    for (int i = 0; i < count; i++) {
        while (vcpus[i].wants_offset)
            sleep_ms(1);
        fprintf(to, "%s%" PRId64, i ? "," : "", vcpus[i].offset);
        matching[0] += vcpus[i].offset == options.offsets[0];
        matching[1] += vcpus[i].offset == options.offsets[1];
    }
    fprintf(to, "]}\n");
    fflush(to);
    if (options.expects_offsets && matching[0] != count && matching[1] != count)
        deviation(offset_check, "of %d vCPUs, %d have one offset and %d the other", count, matching[0], matching[1]);
    held(offset_check);
}

// --- creation

static void create_vm(void)
{
    struct kvm_userspace_memory_region region = { .memory_size = memory_size };
    uint64_t identity_map = 0xFFFBC000;
    kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    require(kvm >= 0, "/dev/kvm");
    vm = ioctl(kvm, KVM_CREATE_VM, 0);
    require(vm >= 0, "KVM_CREATE_VM");
    require(!ioctl(vm, KVM_SET_TSS_ADDR, 0xFFFBD000ul), "KVM_SET_TSS_ADDR");
    require(!ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map), "KVM_SET_IDENTITY_MAP_ADDR");
    memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(memory != MAP_FAILED, "mmap");
    memcpy(memory, guest, (size_t)(guest_end - guest));
    region.userspace_addr = (uintptr_t)memory;
    require(!ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

static void point_at_guest(struct vcpu *vcpu)
{
    struct kvm_sregs special;
    struct kvm_regs general = { .rflags = 2 };
    general.rbx = (uint64_t)((uint8_t *)vcpu->block - memory);
    general.rbp = (uint64_t)(vcpu->kind->code - guest);
    require(!ioctl(vcpu->fd, KVM_GET_SREGS, &special), "KVM_GET_SREGS");
    special.cs.base = special.cs.selector = 0;
    special.es.base = GUEST_DEVICE;
    special.es.selector = GUEST_DEVICE >> 4;
    require(!ioctl(vcpu->fd, KVM_SET_SREGS, &special), "KVM_SET_SREGS");
    require(!ioctl(vcpu->fd, KVM_SET_REGS, &general), "KVM_SET_REGS");
}

static void create_vcpu(int id)
{
    struct vcpu *vcpu = &vcpus[id];
    char name[20];
    snprintf(name, sizeof name, "vCPU %d", id);
    vcpu->id = id;
    vcpu->kind = &kinds[(size_t)id % (sizeof kinds / sizeof kinds[0])];
    vcpu->check = new_check("vCPU %d, %s", id, vcpu->kind->name);
    vcpu->guest_check = new_check("guest of vCPU %d", id);
    vcpu->receiver = new_receiver(name, id);
    vcpu->holder = aligned_alloc(64, sizeof *vcpu->holder);
    vcpu->paused = options.paused || options.no_run;
    vcpu->fd = ioctl(vm, KVM_CREATE_VCPU, id);
    require(vcpu->fd >= 0, "KVM_CREATE_VCPU");
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    vcpu->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    require(vcpu->run != MAP_FAILED, "mmap of a vCPU");
    vcpu->block = (struct block *)(memory + blocks_at) + id;
    vcpu->block->tolerance = (uint64_t)llabs(options.offsets[1] - options.offsets[0]);
    point_at_guest(vcpu);
}

static void set_offset(struct vcpu *vcpu)
{
    struct kvm_device_attr attribute = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&options.offsets[0] };
    require(!ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attribute), "KVM_SET_DEVICE_ATTR");
}

void create_vcpus(void)
{
    create_vm();
    offset_check = new_check("offsets");
    offset_check->idle = true;
    count = options.vcpus;
    for (int i = 0; i < count; i++)
        create_vcpu(i);
    for (int i = 0; i < count && options.expects_offsets; i++)
        set_offset(&vcpus[i]);
}

void start_vcpus(void)
{
    struct sigaction action = { .sa_handler = take_kick, .sa_flags = SA_RESTART | SA_ONSTACK };
    if (sigaction(kick_signal, &action, NULL))
        die("sigaction");
    for (int i = 0; i < count; i++)
        vcpus[i].thread = start_thread(run_vcpu, &vcpus[i]);
}
