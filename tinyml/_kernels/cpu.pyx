# What the CPU can do. This is compiled once, for any CPU.
import os

cdef extern from *:
    """
    #if defined(__x86_64__) || defined(_M_X64)
    #include <cpuid.h>
    /* a bit of cpuid, for names that __builtin_cpu_supports of older compilers does not know */
    static int cpuid_has(unsigned leaf, unsigned subleaf, int which, int bit) {
      unsigned r[4];
      return __get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3]) && (r[which] >> bit & 1);
    }
    static int cpu_has(int which) {
      enum { EAX = 0, ECX = 2 };
      __builtin_cpu_init();
      switch (which) {
        case 0: return __builtin_cpu_supports("avx2") != 0;
        case 1: return __builtin_cpu_supports("fma") != 0;
        case 2: return cpuid_has(1, 0, ECX, 29) && __builtin_cpu_supports("avx") != 0;
        case 3: return __builtin_cpu_supports("avx512f") != 0;
        case 4: return __builtin_cpu_supports("avx512bw") != 0;
        case 5: return __builtin_cpu_supports("avx512vl") != 0;
        case 6: return __builtin_cpu_supports("avx512dq") != 0;
        case 7: return __builtin_cpu_supports("avx512vnni") != 0;
        case 8: return cpuid_has(7, 1, EAX, 4) && __builtin_cpu_supports("avx") != 0;
      }
      return 0;
    }
    #elif defined(__aarch64__)
    #if defined(__linux__)
    #include <sys/auxv.h>
    #endif
    static int cpu_has(int which) {
      switch (which) {
        case 9: return 1;
    #if defined(__ARM_FEATURE_DOTPROD)
        case 10: return 1;                              /* the compiler relies on it, as for Apple's CPUs */
    #elif defined(__linux__)
        case 10: return getauxval(AT_HWCAP) >> 20 & 1;  /* HWCAP_ASIMDDP */
    #endif
      }
      return 0;
    }
    #else
    static int cpu_has(int which) { return 0; }
    #endif
    #ifdef _OPENMP
    #include <omp.h>
    #include <pthread.h>
    #include <stdlib.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <sys/syscall.h>
    #endif
    enum { HAVE_OPENMP = 1 };
    static int default_threads(void) { return omp_get_max_threads(); }
    typedef struct { pthread_t thread; pthread_mutex_t* gate; long id; } Tried;
    static void* wait_at(void* tried) {
      Tried* t = tried;
    #ifdef __linux__
      t->id = syscall(SYS_gettid);
    #endif
      void* volatile some = malloc(64);     /* OpenMP's threads allocate: the C library takes 64 MB of addresses for it */
      free(some);
      pthread_mutex_lock(t->gate);
      pthread_mutex_unlock(t->gate);
      return NULL;
    }
    static void wait_for(Tried* t) {
      pthread_join(t->thread, NULL);
    #ifdef __linux__
      /* the system counts a thread for a moment longer */
      for (int i = 0; i < 1000 && !syscall(SYS_tgkill, getpid(), t->id, 0); i++) usleep(20);
    #endif
    }
    #ifdef __clang__
    enum { MORE = 4 };      /* LLVM's OpenMP takes more memory per thread, and not always the same */
    #else
    enum { MORE = 2 };      /* OpenMP takes some memory besides that of its threads */
    #endif
    static int start_team(int n) {
      pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
      int wanted = MORE * n, started = 0;
      Tried* tried = malloc(wanted * sizeof(Tried));
      if (tried == NULL) return 1;
      pthread_mutex_lock(&gate);
      for (; started < wanted; started++) {
        tried[started].gate = &gate;
        if (pthread_create(&tried[started].thread, NULL, wait_at, &tried[started])) break;
      }
      pthread_mutex_unlock(&gate);
      for (int i = 0; i < started; i++) wait_for(&tried[i]);
      free(tried);
      if (started < wanted) n = started > MORE ? started / MORE : 1;
      #pragma omp parallel num_threads(n)
      { (void)*(volatile int*)&n; }     /* a compiler leaves out a region that is empty */
      return n;
    }
    #else
    enum { HAVE_OPENMP = 0 };
    static int default_threads(void) { return 1; }
    static int start_team(int n) { return n; }
    #endif
    """
    bint cpu_has(int)
    bint HAVE_OPENMP
    int default_threads()
    int start_team(int)

NAMES = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "avxvnni", "asimd", "asimddp")


def features() -> set:
    """Names of the instruction sets that both the CPU and the operating system support."""
    return {name for which, name in enumerate(NAMES) if cpu_has(which)}


def openmp() -> bool:
    """Whether the kernels were built with OpenMP."""
    return bool(HAVE_OPENMP)


def threads() -> int:
    """How many threads OpenMP uses by default: OMP_NUM_THREADS, or one for each CPU of this process."""
    return default_threads()


def team(int n) -> int:
    """Start `n` threads for the kernels of the calling thread, or as many as the system lets this process start. Returns
    how many.

    OpenMP ends the process where it cannot start a thread, so plain threads are tried before it starts its own. Meanwhile
    the GIL is held, so that no other thread of this process takes their place.
    """
    return start_team(n)
