# From the firmware to Rust: paging off, a0 = hart id, a1 = device tree. The image must start at the image
# file's first byte: QEMU jumps there whatever the ELF header says.

    .attribute arch, "rv64gc"

    .equ    LEAF_RWX, 0xef              # V R W X G A D
    .equ    LEAF_RW, 0xe7

    .section .text.entry, "ax"
    .globl  _start
_start:
    csrw    sie, x0
    csrci   sstatus, 2
    la      t0, boot_taken
    li      t1, 1
    amoswap.w.aqrl t1, t1, (t0)
    bnez    t1, came_here
    mv      s0, a0
    mv      s1, a1
    la      t0, __bss_start
    la      t1, __bss_end
1:  sd      x0, 0(t0)
    addi    t0, t0, 8
    bltu    t0, t1, 1b

    la      s2, __text_start            # where the image is
    la      s3, {root}
    # The direct map: 128 pages of 1 GiB.
    li      t0, 256 * 8
    add     t0, s3, t0
    li      t1, LEAF_RW
    li      t2, 128
    li      t3, 1 << 28
1:  sd      t1, 0(t0)
    add     t1, t1, t3
    addi    t0, t0, 8
    addi    t2, t2, -1
    bnez    t2, 1b
    # The image: pages of 2 MiB.
    la      t0, {image}
    srli    t1, t0, 2
    ori     t1, t1, 1
    li      t2, 510 * 8
    add     t2, s3, t2
    sd      t1, 0(t2)
    srli    t1, s2, 2
    ori     t1, t1, LEAF_RWX
    la      t2, __kernel_end
    sub     t2, t2, s2
    li      t3, 1 << 19
    li      t4, 1 << 21
1:  sd      t1, 0(t0)
    add     t1, t1, t3
    addi    t0, t0, 8
    sub     t2, t2, t4
    bgtz    t2, 1b
    # The trap page, last of all.
    la      t0, {top}
    srli    t1, t0, 2
    ori     t1, t1, 1
    li      t2, 511 * 8
    add     t3, s3, t2
    sd      t1, 0(t3)
    add     t0, t0, t2
    la      t1, {top0}
    add     t3, t1, t2
    srli    t1, t1, 2
    ori     t1, t1, 1
    sd      t1, 0(t0)
    la      t1, {trap_page}
    srli    t1, t1, 2
    ori     t1, t1, LEAF_RW
    sd      t1, 0(t3)

    li      t0, 8 << 60                 # Sv39
    srli    t1, s3, 12
    or      t0, t0, t1
    # Turning paging on makes the next fetch fault; the trap vector is where to go on.
    li      t1, {KERNEL_BASE}
    sub     t1, t1, s2
    la      t2, 2f
    add     t1, t1, t2
    csrw    stvec, t1
    sfence.vma
    csrw    satp, t0
    .balign 4
2:  la      sp, boot_stack_top
    la      tp, {local}
    sd      t0, {L_SATP}(tp)
    mv      a0, s0
    mv      a1, s1
    mv      a2, s2
    li      s0, 0
    li      ra, 0
    tail    {boot_main}

# Another hart: a1 is the physical address of its Local, which is in the direct map.
    .globl  secondary_start
    .balign 4
secondary_start:
    csrw    sie, x0
    csrci   sstatus, 2
    ld      t0, {L_START_SATP}(a1)
    li      t1, {KERNEL_BASE}
    la      t2, __text_start
    sub     t1, t1, t2
    la      t2, 2f
    add     t1, t1, t2
    csrw    stvec, t1
    sfence.vma
    csrw    satp, t0
    .balign 4
2:  li      tp, {DIRECT_MAP_BASE}
    add     tp, tp, a1
    ld      sp, {L_START_SP}(tp)
    sd      t0, {L_SATP}(tp)
    li      s0, 0
    li      ra, 0
    tail    {secondary_main}

# OpenSBI before 1.3 can send a hart here that was asked to start at secondary_start: it looks at the start
# request between the request's state and its address being set, and takes the address it has had since
# power-on. The hart finds its own Local in the list of those asked for.
came_here:
    la      t0, {starting}
    li      t1, {MAX_CPUS}
1:  ld      t2, 0(t0)
    beqz    t2, 2f
    ld      t3, 8(t0)
    beq     t3, a0, 3f
2:  addi    t0, t0, 16
    addi    t1, t1, -1
    bnez    t1, 1b
    wfi                                 # nobody asked for this hart yet
    j       came_here
3:  mv      a1, t2
    j       secondary_start

    .data
    .balign 4
boot_taken:
    .word   0

    .section .boot_stack, "aw", @nobits
    .balign 4096
    .space  16384
boot_stack_top:
