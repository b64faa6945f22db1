/** The part of fs-native-extensions that this project uses; the package ships no types. */
declare module 'fs-native-extensions' {
  interface LockOptions {
    readonly shared?: boolean;
  }
  const locks: {
    tryLock(fd: number, options?: LockOptions): boolean;
    tryLock(fd: number, offset: number, length: number, options?: LockOptions): boolean;
    waitForLock(fd: number, options?: LockOptions): Promise<void>;
    unlock(fd: number): void;
  };
  export default locks;
}
