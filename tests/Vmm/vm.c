#define _GNU_SOURCE
#include "vm.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

struct vcpu vcpus[GUEST_MOST_VCPUS];
int vcpu_count;
uint64_t set_clock_ticks;
struct span clock_away;

static int kvm = -1, vm = -1;
static uint8_t *memory;

enum { PAGE = 0x1000, LARGE_PAGE = 0x200000, PRESENT_WRITABLE = 3, IS_LARGE = 0x80, MOST_CPUID = 256, TABLES = 6 };

_Noreturn void die(const char *what)
{
    char text[200];
    int length = snprintf(text, sizeof text, "standin: %s: %s\n", what, strerror(errno));
    if (write(2, text, (size_t)length) < 0)
        _exit(3);
    _exit(2);
}

static int require(int result, const char *what)
{
    if (result < 0)
        die(what);
    return result;
}

#define CALL(fd, request, argument) require(ioctl(fd, request, argument), #request)

int vm_descriptor(void)
{
    return vm;
}

void *guest_memory(void)
{
    return memory;
}

struct area *guest_area(int id)
{
    return (struct area *)(memory + GUEST_AREAS + id * GUEST_AREA_SIZE);
}

// --- creation

// The first 4 GiB as they are: the memory, and the APIC.
static void map_tables(void)
{
    uint64_t *top = (uint64_t *)(memory + GUEST_TABLES), *second = top + PAGE / 8, *third = second + PAGE / 8;
    top[0] = (GUEST_TABLES + PAGE) | PRESENT_WRITABLE;
    for (uint64_t i = 0; i < TABLES - 2; i++)
        second[i] = (GUEST_TABLES + (2 + i) * PAGE) | PRESENT_WRITABLE;
    for (uint64_t i = 0; i < (TABLES - 2) * 512; i++)
        third[i] = (i * LARGE_PAGE) | PRESENT_WRITABLE | IS_LARGE;
}

static void place_timer_gate(void)
{
    uint64_t handler = GUEST_CODE + (uint64_t)(guest_timer - __start_guest);
    uint64_t *gate = (uint64_t *)(memory + GUEST_IDT) + 2 * GUEST_TIMER_VECTOR;
    gate[0] = (handler & 0xFFFF) | 8ul << 16 | 0x8Eul << 40 | (handler >> 16 & 0xFFFF) << 48;
    gate[1] = handler >> 32;
}

static void place_guest(void)
{
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d);
    memcpy(memory + GUEST_CODE, __start_guest, (size_t)(__stop_guest - __start_guest));
    map_tables();
    ((uint64_t *)(memory + GUEST_GDT))[1] = 0x00AF9B000000FFFF;
    ((uint64_t *)(memory + GUEST_GDT))[2] = 0x00CF93000000FFFF;
    place_timer_gate();
    for (int i = 0; i < GUEST_MOST_VCPUS; i++)
        guest_area(i)->is_amd = b == 0x68747541; // "Auth"
}

void create_vm(bool splits_irqchip)
{
    struct kvm_userspace_memory_region region = { .memory_size = GUEST_MEMORY };
    uint64_t identity_map = 0xFFFBC000;
    kvm = require(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    vm = CALL(kvm, KVM_CREATE_VM, 0);
    CALL(vm, KVM_SET_TSS_ADDR, 0xFFFBD000ul);
    CALL(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
    memory = mmap(NULL, GUEST_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    place_guest();
    region.userspace_addr = (uintptr_t)memory;
    CALL(vm, KVM_SET_USER_MEMORY_REGION, &region);
    if (splits_irqchip) {
        struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
        CALL(vm, KVM_ENABLE_CAP, &split);
    } else {
        CALL(vm, KVM_CREATE_IRQCHIP, 0);
    }
}

static void set_cpuid(int fd)
{
    enum { HAS_TSC_DEADLINE = 1 << 24 };
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + MOST_CPUID * sizeof cpuid->entries[0]);
    if (!cpuid)
        die("calloc");
    cpuid->nent = MOST_CPUID;
    CALL(kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
    for (uint32_t i = 0; i < cpuid->nent; i++)
        if (cpuid->entries[i].function == 1)
            cpuid->entries[i].ecx |= HAS_TSC_DEADLINE;
    CALL(fd, KVM_SET_CPUID2, cpuid);
    free(cpuid);
}

void create_vcpu(int id)
{
    struct vcpu *vcpu = &vcpus[id];
    vcpu->id = id;
    vcpu->copy = -1;
    vcpu->fd = CALL(vm, KVM_CREATE_VCPU, (unsigned long)id);
    int size = CALL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    vcpu->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED)
        die("mmap of a vCPU");
    set_cpuid(vcpu->fd);
}

void duplicate_vcpu(int id)
{
    vcpus[id].copy = require(dup(vcpus[id].fd), "dup");
}

static struct kvm_segment segment(uint16_t selector, uint8_t type)
{
    return (struct kvm_segment){ .limit = 0xFFFFFFFF, .selector = selector, .type = type, .present = 1, .s = 1, .g = 1, .l = type == 11, .db = type != 11 };
}

void start_guest(int id)
{
    enum { PAE = 1 << 5, PROTECTED_AND_PAGED = (int)0x80000011, LONG_MODE = 0x500 };
    uint64_t area = GUEST_AREAS + (uint64_t)id * GUEST_AREA_SIZE;
    struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
    struct kvm_regs regs = { .rflags = 2, .rip = GUEST_CODE + (uint64_t)(guest_entry - __start_guest), .rdi = area, .rsp = area + GUEST_STACK - 8 };
    struct kvm_sregs sregs;
    CALL(vcpus[id].fd, KVM_GET_SREGS, &sregs);
    sregs.cr0 = (uint32_t)PROTECTED_AND_PAGED;
    sregs.cr3 = GUEST_TABLES;
    sregs.cr4 = PAE;
    sregs.efer = LONG_MODE;
    sregs.cs = segment(8, 11);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(16, 3);
    sregs.tr = (struct kvm_segment){ .base = GUEST_TSS, .limit = 103, .selector = 24, .type = 11, .present = 1 };
    sregs.gdt = (struct kvm_dtable){ .base = GUEST_GDT, .limit = 31 };
    sregs.idt = (struct kvm_dtable){ .base = GUEST_IDT, .limit = 0xFFF };
    *(uint32_t *)(memory + GUEST_NAP) = get_tsc_khz(id) * 20; // 20 ms
    CALL(vcpus[id].fd, KVM_SET_SREGS, &sregs);
    CALL(vcpus[id].fd, KVM_SET_REGS, &regs);
    CALL(vcpus[id].fd, KVM_SET_MP_STATE, &runnable);
}

// --- state

static uint64_t real_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct span between(struct span first, struct span second)
{
    return (struct span){ second.from - first.to, second.to - first.from };
}

void save_vcpu(int id, struct vcpu_state *state)
{
    int fd = vcpus[id].fd;
    CALL(fd, KVM_GET_MP_STATE, &state->mp);
    CALL(fd, KVM_GET_REGS, &state->regs);
    CALL(fd, KVM_GET_SREGS, &state->sregs);
    CALL(fd, KVM_GET_LAPIC, &state->lapic);
    state->tsc_khz = get_tsc_khz(id);
    state->tsc_read.from = real_now();
    state->tsc = get_msr(id, MSR_TSC);
    state->tsc_read.to = real_now();
    state->tsc_deadline = get_msr(id, MSR_TSC_DEADLINE);
    state->system_time = get_msr(id, MSR_KVM_SYSTEM_TIME);
    CALL(fd, KVM_GET_VCPU_EVENTS, &state->events);
}

void restore_registers(int id, const struct vcpu_state *state)
{
    int fd = vcpus[id].fd;
    CALL(fd, KVM_SET_MP_STATE, &state->mp);
    CALL(fd, KVM_SET_REGS, &state->regs);
    CALL(fd, KVM_SET_SREGS, &state->sregs);
    CALL(fd, KVM_SET_LAPIC, &state->lapic);
}

void restore_events(int id, const struct vcpu_state *state)
{
    CALL(vcpus[id].fd, KVM_SET_VCPU_EVENTS, &state->events);
}

void restore_tsc(int id, const struct vcpu_state *state)
{
    struct span written;
    written.from = real_now();
    set_msr(id, MSR_TSC, state->tsc);
    written.to = real_now();
    vcpus[id].tsc_away = between(state->tsc_read, written);
}

uint32_t get_tsc_khz(int id)
{
    return (uint32_t)CALL(vcpus[id].fd, KVM_GET_TSC_KHZ, 0);
}

void set_tsc_khz(int id, uint32_t khz)
{
    CALL(vcpus[id].fd, KVM_SET_TSC_KHZ, (unsigned long)khz);
}

struct one_msr {
    struct kvm_msrs head;
    struct kvm_msr_entry entry;
};

uint64_t get_msr(int id, uint32_t index)
{
    struct one_msr msr = { .head.nmsrs = 1, .entry.index = index };
    if (CALL(vcpus[id].fd, KVM_GET_MSRS, &msr) != 1)
        die("KVM_GET_MSRS got none");
    return msr.entry.data;
}

void set_msr(int id, uint32_t index, uint64_t value)
{
    struct one_msr msr = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };
    if (CALL(vcpus[id].fd, KVM_SET_MSRS, &msr) != 1)
        die("KVM_SET_MSRS set none");
}

uint64_t get_tsc_offset(int id)
{
    uint64_t offset;
    struct kvm_device_attr attribute = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset };
    CALL(vcpus[id].fd, KVM_GET_DEVICE_ATTR, &attribute);
    return offset;
}

void set_tsc_offset(int id, uint64_t offset)
{
    struct kvm_device_attr attribute = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset };
    CALL(vcpus[id].fd, KVM_SET_DEVICE_ATTR, &attribute);
}

struct vm_clock get_clock(void)
{
    struct vm_clock clock = { .read.from = real_now() };
    CALL(vm, KVM_GET_CLOCK, &clock.data);
    clock.read.to = real_now();
    return clock;
}

// KVM reads the TSC and CLOCK_REALTIME apart: what it misses is less than that took.
void set_clock(const struct vm_clock *clock, uint32_t flags)
{
    struct kvm_clock_data data = { .clock = clock->data.clock, .flags = flags, .realtime = clock->data.realtime };
    struct span set;
    set.from = real_now();
    uint64_t before = __rdtsc();
    CALL(vm, KVM_SET_CLOCK, &data);
    set_clock_ticks = __rdtsc() - before;
    set.to = real_now();
    clock_away = between(clock->read, set);
}

int tell_stopped(int fd)
{
    return ioctl(fd, KVM_KVMCLOCK_CTRL) ? errno : 0;
}
