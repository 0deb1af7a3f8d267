package aws

import (
	"fmt"
	"strings"
)

// Spellings of Route 53: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DomainNameFormat.html
// and https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html#TXTFormat

// plainName is a name as the contract writes it: lower case, without final dot, escapes undone.
func plainName(name string) string {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if c, ok := octal(name[i:]); ok {
			b.WriteByte(c)
			i += 3
			continue
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

// octal reads an escape like \052 at the beginning of a text.
func octal(s string) (byte, bool) {
	if len(s) < 4 || s[0] != '\\' {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s[1:4]) {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = n*8 + int(c-'0')
	}
	return byte(n), n < 256
}

// maxCharacterString is how long one string of a TXT record is; longer values have several.
const maxCharacterString = 255

// quoteText writes the value of a TXT record in quotation marks, as several strings when it is long.
func quoteText(value string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(value) {
		if i > 0 && i%maxCharacterString == 0 {
			b.WriteString(`" "`)
		}
		switch c := value[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c > 0x7e:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// unquoteText is the reverse of quoteText. What is not in quotation marks is taken as it stands.
func unquoteText(text string) string {
	var b strings.Builder
	inside := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if e, ok := octal(text[i:]); ok {
			b.WriteByte(e)
			i += 3
			continue
		}
		switch {
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case c == '"':
			inside = !inside
		case inside || c != ' ':
			b.WriteByte(c)
		}
	}
	return b.String()
}
