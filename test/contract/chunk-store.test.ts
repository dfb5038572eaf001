import t from 'tap';
import { DiskStore } from '../../src/chunk/disk-store.js';
import { MemoryStore } from '../../src/chunk/memory-store.js';
import { damageOnDisk } from '../chunk/damage.js';
import { scratch } from '../chunk/scratch.js';
import { suite } from './chunk-store.js';

t.test('the memory store', (t) =>
  suite(t, async (_t, options) => {
    const store = new MemoryStore(options);
    return { store, damage: async (id, _bytes, offset) => store.damage(id, offset) };
  }),
);

t.test('the disk store', (t) =>
  suite(t, async (t, options) => {
    const path = scratch(t);
    let store = DiskStore.open({ path, ...options });
    return {
      get store() {
        return store;
      },
      damage: async (id, bytes, offset) => {
        await store.close();
        damageOnDisk(path, id, bytes, offset);
        store = DiskStore.open({ path, ...options });
      },
    };
  }),
);
