/** The one place where a write path is put together: of a mount, and of what an earlier daemon has left. */
import { limits } from '../proto/limits.js';
import { ChunkWriter, type ChunkWriterOptions } from './chunk-writer.js';

type Told = 'refreshMap' | 'abandon' | 'onSettled' | 'onCommitted';

/** `dirtyBytes`: default limits.dirtyBytes, at least one chunk. Who leaves hooks out need not be told. */
export type SessionWriterOptions = Omit<ChunkWriterOptions, Told | 'dirtyBytes'> &
  Partial<Pick<ChunkWriterOptions, Told>> & { readonly dirtyBytes?: number | undefined };

export function makeWriter(options: SessionWriterOptions): ChunkWriter {
  const nobody = (): void => {};
  return new ChunkWriter({
    refreshMap: nobody,
    abandon: nobody,
    onCommitted: nobody,
    ...options,
    dirtyBytes: Math.max(options.dirtyBytes ?? limits.dirtyBytes, limits.chunkBytes),
  });
}
