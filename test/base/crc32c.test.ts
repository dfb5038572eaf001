import t from 'tap';
import { crc32c } from '../../src/base/crc32c.js';
import { Prng } from '../../src/base/prng.js';

t.test('the check value and the test vectors of RFC 3720 come out', async (t) => {
  t.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  t.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  t.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  t.equal(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index)), 0x46dd794e);
  t.equal(crc32c(Uint8Array.from({ length: 32 }, (_, index) => 31 - index)), 0x113fdb5c);
});

t.test('no bytes have the checksum 0, and leave a seed as it is', async (t) => {
  t.equal(crc32c(new Uint8Array(0)), 0);
  t.equal(crc32c(new Uint8Array(0), 0xe3069283), 0xe3069283);
});

t.test('chained over any split it is the checksum of the whole', async (t) => {
  const bytes = new Prng(7).bytes(300);
  const whole = crc32c(bytes);
  for (let split = 0; split <= bytes.length; split++)
    t.equal(crc32c(bytes.subarray(split), crc32c(bytes.subarray(0, split))), whole);
});

t.test('a view into a larger buffer is summed alone', async (t) => {
  const around = Buffer.from('xx123456789yy');
  t.equal(crc32c(around.subarray(2, 11)), 0xe3069283);
});
