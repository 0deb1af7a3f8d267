// Package logging makes the one kind of logger that both programs use: zap on
// standard error, for people on a terminal, as JSON lines elsewhere.
package logging

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	tlog "go.temporal.io/sdk/log"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// Levels are the accepted names of levels, least severe first.
func Levels() []string { return []string{"debug", "info", "warn", "error"} }

// New returns a logger on standard error that drops what is below level (see
// [Levels]; empty = info).
func New(level string) (*zap.Logger, error) { return NewWriter(os.Stderr, level) }

// NewWriter is [New] for another destination.
func NewWriter(w io.Writer, level string) (*zap.Logger, error) {
	if level == "" {
		level = "info"
	}
	var at zapcore.Level
	if err := at.UnmarshalText([]byte(level)); err != nil || at > zapcore.ErrorLevel {
		return nil, fmt.Errorf("log level %q: no such level; use one of %v", level, Levels())
	}
	return zap.New(zapcore.NewCore(encoder(IsTerminal(w)), zapcore.Lock(zapcore.AddSync(w)), at)), nil
}

func encoder(console bool) zapcore.Encoder {
	config := zap.NewProductionEncoderConfig()
	config.TimeKey = "time"
	if console {
		config.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		config.EncodeLevel = zapcore.CapitalLevelEncoder
		config.ConsoleSeparator = "  "
		return zapcore.NewConsoleEncoder(config)
	}
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncodeDuration = zapcore.SecondsDurationEncoder
	return zapcore.NewJSONEncoder(config)
}

// Slog returns the same logger for libraries that want log/slog.
func Slog(log *zap.Logger) *slog.Logger { return slog.New(zapslog.NewHandler(log.Core())) }

// Temporal returns the same logger for the Temporal SDK.
func Temporal(log *zap.Logger) tlog.Logger { return tlog.NewStructuredLogger(Slog(log)) }

// IsTerminal tells whether a person may be looking at w.
func IsTerminal(w any) bool {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
