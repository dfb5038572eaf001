/**
 * A conversation with libfuse: one handler for each operation of the C side, put together.
 *
 * It does not: cache anything, mount anything.
 */
import type { Operations } from '../vfs/operations.js';
import { NativeAttributes, NativeXattrs } from './fuse-native-attributes.js';
import type { NativeBinding, NativeHandlers } from './fuse-native-binding.js';
import { NativeContext } from './fuse-native-context.js';
import { NativeIo } from './fuse-native-io.js';
import { NativeNames } from './fuse-native-names.js';

export class NativeSession {
  readonly #context: NativeContext;
  readonly handlers: NativeHandlers;

  constructor(options: {
    operations: Operations;
    binding: NativeBinding;
    syncWrites: boolean;
    debug: boolean;
    /** The kernel has sent its first request. */
    onReady: () => void;
  }) {
    this.#context = new NativeContext(options);
    this.handlers = {
      init: this.#context.plain('init', options.onReady),
      ...new NativeAttributes(this.#context).handlers(),
      ...new NativeNames(this.#context).handlers(),
      ...new NativeIo(this.#context).handlers(),
      ...new NativeXattrs(this.#context).handlers(),
    };
  }

  /** The mount is gone: calls under way are not answered any more. */
  end(): void {
    this.#context.end();
  }
}
