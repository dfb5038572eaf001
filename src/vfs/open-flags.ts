/** The flags of open(2) that matter here, with Linux's numbers. **Source:** include/uapi/asm-generic/fcntl.h. */
export const O_ACCMODE = 0o3;
export const O_RDONLY = 0o0;
export const O_WRONLY = 0o1;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_NOATIME = 0o1000000;

export const mayRead = (flags: number): boolean => (flags & O_ACCMODE) !== O_WRONLY;
export const mayWrite = (flags: number): boolean => (flags & O_ACCMODE) !== O_RDONLY;
