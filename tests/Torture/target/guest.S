#include "guest.h"

    .section .rodata
    .code16
    .globl guest, guest_spin, guest_halt, guest_port, guest_device, guest_end
guest:
    rdtsc
    movl BLOCK_TSC(%bx), %ecx
    movl BLOCK_TSC + 4(%bx), %esi
    movl %eax, BLOCK_TSC(%bx)
    movl %edx, BLOCK_TSC + 4(%bx)
    // How far back it went: the last one minus this one, if that is positive.
    subl %eax, %ecx
    sbbl %edx, %esi
    js forward
    cmpl BLOCK_TOLERANCE + 4(%bx), %esi
    jb forward
    ja backward
    cmpl BLOCK_TOLERANCE(%bx), %ecx
    jbe forward
backward:
    movl %ecx, BLOCK_STEP(%bx)
    movl %esi, BLOCK_STEP + 4(%bx)
    incl BLOCK_VIOLATIONS(%bx)
forward:
    addl $1, BLOCK_ITERATIONS(%bx)
    adcl $0, BLOCK_ITERATIONS + 4(%bx)
    jmp *%bp

guest_spin:
    jmp guest

guest_halt:
    hlt
    jmp guest

// Writes a counter to a port, and reads its complement back.
guest_port:
    incl BLOCK_COUNTER(%bx)
    movl BLOCK_COUNTER(%bx), %eax
    movw $GUEST_PORT, %dx
    outl %eax, %dx
    inl %dx, %eax
    jmp compare

// The same with a device in memory.
guest_device:
    incl BLOCK_COUNTER(%bx)
    movl BLOCK_COUNTER(%bx), %eax
    movl %eax, %es:0
    movl %es:4, %eax
compare:
    notl %eax
    cmpl BLOCK_COUNTER(%bx), %eax
    je guest
    incl BLOCK_VIOLATIONS(%bx)
    jmp guest
guest_end:

    .code64
    .section .note.GNU-stack, "", @progbits
