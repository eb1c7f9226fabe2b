package protocol

// base64Value is the value of each character of the usual alphabet (RFC 4648),
// and notBase64 for all others.
var base64Value = func() (values [256]byte) {
	for i := range values {
		values[i] = notBase64
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range len(alphabet) {
		values[alphabet[i]] = byte(i)
	}
	values['='] = 0
	return values
}()

const notBase64 = 0x80

// decodeBase64 decodes src into dst, which may be the same, as memcached does
// (base64.c): characters outside the alphabet are passed over, and what stands
// behind the padding is not looked at. It returns 0 for what memcached refuses.
// dst has room for 3 bytes for 4 characters.
func decodeBase64(dst, src []byte) (n int) {
	count := 0
	for _, c := range src {
		if base64Value[c] != notBase64 {
			count++
		}
	}
	if count == 0 || count%4 != 0 {
		return 0
	}
	var block [4]byte
	at, padding := 0, 0
	for _, c := range src {
		v := base64Value[c]
		if v == notBase64 {
			continue
		}
		if c == '=' {
			padding++
		}
		block[at] = v
		if at++; at < len(block) {
			continue
		}
		at = 0
		dst[n], dst[n+1], dst[n+2] = block[0]<<2|block[1]>>4, block[1]<<4|block[2]>>2, block[2]<<6|block[3]
		n += 3
		switch padding {
		case 0:
		case 1, 2:
			return n - padding
		default:
			return 0
		}
	}
	return n
}
