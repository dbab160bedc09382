"""The part of the features' table that is decided when a kernel is built, or by the processor."""

from __future__ import annotations

from .model import Fact, Feature, Symbol

BUILD: tuple[Feature, ...] = (
    Feature(
        "kmem",
        ("GRKERNSEC_KMEM",),
        "the machine's memory is no file: /dev/mem shows devices alone, /dev/kmem is gone",
        (Symbol(("STRICT_DEVMEM",)), Symbol(("IO_STRICT_DEVMEM",)), Symbol(("!DEVKMEM",))),
    ),
    Feature(
        "usercopy",
        ("PAX_USERCOPY",),
        "a copy to or from a program stays inside the object that it is meant for",
        (Symbol(("HARDENED_USERCOPY",)),),
    ),
    Feature(
        "refcount",
        ("PAX_REFCOUNT",),
        "a counter of references that overflows stays where it is",
        (Symbol(("REFCOUNT_FULL",), always_since=(5, 5)),),
    ),
    Feature(
        "structleak",
        ("PAX_MEMORY_STRUCTLEAK",),
        "variables on the kernel's stack begin as zeros",
        (Symbol(("INIT_STACK_ALL_ZERO", "GCC_PLUGIN_STRUCTLEAK_BYREF_ALL")),),
    ),
    Feature(
        "stackleak",
        ("PAX_MEMORY_STACKLEAK",),
        "the kernel's stack is cleaned after each system call",
        (Symbol(("GCC_PLUGIN_STACKLEAK", "KSTACK_ERASE")),),
    ),
    Feature(
        "kstackoverflow",
        ("GRKERNSEC_KSTACKOVERFLOW",),
        "the kernel's stacks end at a page that is not there",
        (Symbol(("VMAP_STACK",)),),
    ),
    Feature(
        "randstruct",
        ("GRKERNSEC_RANDSTRUCT",),
        "structures are laid out in an order of this build's own",
        (Symbol(("RANDSTRUCT_FULL", "GCC_PLUGIN_RANDSTRUCT")),),
    ),
    Feature(
        "latent_entropy",
        ("PAX_LATENT_ENTROPY",),
        "the boot itself feeds the random numbers",
        (Symbol(("GCC_PLUGIN_LATENT_ENTROPY",)),),
    ),
    Feature(
        "rap",
        ("PAX_RAP",),
        "calls and returns go where they were meant to",
        (Symbol(("CFI_CLANG", "CFI")), Symbol(("X86_KERNEL_IBT", "ARM64_BTI_KERNEL"))),
    ),
    Feature(
        "noexec",
        ("PAX_NOEXEC", "PAX_PAGEEXEC", "PAX_SEGMEXEC"),
        "data is not executed",
        (Fact("processor", "nx"),),
    ),
    Feature(
        "kernexec",
        ("PAX_KERNEXEC",),
        "the kernel executes its own code alone, and cannot write it",
        (Fact("processor", "smep"), Symbol(("STRICT_KERNEL_RWX",)), Symbol(("STRICT_MODULE_RWX", "!MODULES"))),
    ),
    Feature(
        "uderef",
        ("PAX_MEMORY_UDEREF",),
        "the kernel does not follow a pointer into a program, nor a program one into the kernel",
        (
            Fact("processor", "smap"),
            Symbol(("PAGE_TABLE_ISOLATION", "MITIGATION_PAGE_TABLE_ISOLATION")),
            Fact("weakness", "meltdown"),
        ),
    ),
    Feature(
        "heap_checks",
        (),
        "broken lists and overrun buffers are noticed",
        (Symbol(("LIST_HARDENED", "DEBUG_LIST")), Symbol(("FORTIFY_SOURCE",))),
    ),
)
