package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unicode/utf8"
)

// line is one line of a saved record: a JSON object with one of these members.
type line struct {
	Begin  *beginLine  `json:"begin,omitempty"`
	Key    *keyLine    `json:"key,omitempty"`    // of the store that it begins with
	Change *changeLine `json:"change,omitempty"` // of one revision, whole
	Lease  *leaseLine  `json:"lease,omitempty"`
	Member *memberLine `json:"member,omitempty"`
	Note   *noteLine   `json:"note,omitempty"`
	End    *endLine    `json:"end,omitempty"`
}

type beginLine struct {
	Format   string    `json:"format"`
	Revision int64     `json:"revision"`
	Seen     time.Time `json:"seen"`
}

const format = "etcd history 1"

type keyLine struct {
	Key     text   `json:"key"`
	Value   text   `json:"value,omitzero"`
	Size    int    `json:"size,omitempty"` // when Value is only the beginning
	Create  int64  `json:"create,omitempty"`
	Mod     int64  `json:"mod,omitempty"`
	Version int64  `json:"version,omitempty"` // 0 for a deletion
	Lease   string `json:"lease,omitempty"`   // 16 digits, as etcdctl prints it
}

type changeLine struct {
	Revision int64     `json:"revision"`
	Seen     time.Time `json:"seen"`
	Keys     []keyLine `json:"keys"`
}

type leaseLine struct {
	ID    string     `json:"id"`
	First time.Time  `json:"first"`
	Looks []lookLine `json:"looks,omitempty"`
	Ended Ending     `json:"ended,omitempty"`
	End   time.Time  `json:"end,omitzero"`
	At    int64      `json:"at,omitempty"`
	Keys  []text     `json:"keys,omitempty"`
}

type lookLine struct {
	Seen     time.Time `json:"seen"`
	Early    time.Time `json:"early"` // the deadline lies between
	Late     time.Time `json:"late"`
	TTL      int64     `json:"ttl"`
	Renewals int       `json:"renewals,omitempty"`
	Term     uint64    `json:"term"`
}

type memberLine struct {
	Seen     time.Time `json:"seen"`
	Name     string    `json:"name"`
	Endpoint string    `json:"endpoint"`
	ID       uint64    `json:"id,string"`
	Role     Role      `json:"role"`
	Term     uint64    `json:"term"`
	Size     int64     `json:"size"`
	Quota    int64     `json:"quota,omitempty"`
	Full     bool      `json:"full,omitempty"`
}

type noteLine struct {
	Revision int64     `json:"revision"`
	Seen     time.Time `json:"seen"`
	Text     string    `json:"text"`
}

// endLine tells that nothing is missing, and up to when something was heard.
type endLine struct {
	Revision int64     `json:"revision"`
	Heard    time.Time `json:"heard"`
}

// text is bytes, as a JSON string where they are UTF-8, or else as {"base64": …}.
type text string

func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(map[string][]byte{"base64": []byte(t)})
}

func (t *text) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, (*string)(t))
	}
	var coded struct{ Base64 []byte }
	err := json.Unmarshal(data, &coded)
	*t = text(coded.Base64)
	return err
}

func leaseText(id int64) string {
	if id == 0 {
		return ""
	}
	return fmt.Sprintf("%016x", uint64(id))
}

func leaseID(text string) (id int64, err error) {
	if text == "" {
		return 0, nil
	}
	var number uint64
	_, err = fmt.Sscanf(text, "%x", &number)
	return int64(number), err
}

func newKeyLine(kv *KeyValue) keyLine {
	l := keyLine{Key: text(kv.Key), Value: text(kv.Value), Create: kv.Create, Mod: kv.Mod,
		Version: kv.Version, Lease: leaseText(kv.Lease)}
	if kv.Size != len(kv.Value) {
		l.Size = kv.Size
	}
	return l
}

func (l keyLine) keyValue() (*KeyValue, error) {
	lease, err := leaseID(l.Lease)
	kv := &KeyValue{Key: string(l.Key), Value: string(l.Value), Size: max(l.Size, len(l.Value)),
		Create: l.Create, Mod: l.Mod, Version: l.Version, Lease: lease}
	return kv, err
}

// Save writes the record as JSON lines, for Load: a line "begin", a line "key" for
// each key of the store at that revision, a line "change" for each revision after
// it, what is known of leases and members, the notes, and a line "end".
func (r *Record) Save(w io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	buffered := bufio.NewWriter(w)
	encoder := json.NewEncoder(buffered)
	encoder.SetEscapeHTML(false)
	time := func(since time.Duration) time.Time { return r.began.Add(since).UTC() }

	// What goes wrong stays with the writer, until Flush.
	encoder.Encode(line{Begin: &beginLine{format, r.past[0].revision, time(r.base)}})
	r.past[0].store.Ascend(func(kv *KeyValue) bool {
		l := newKeyLine(kv)
		return encoder.Encode(line{Key: &l}) == nil
	})
	for i := 0; i < len(r.entries); {
		change := changeLine{Revision: r.entries[i].revision, Seen: time(r.entries[i].seen)}
		for ; i < len(r.entries) && r.entries[i].revision == change.Revision; i++ {
			if e := r.entries[i]; e.after != nil {
				change.Keys = append(change.Keys, newKeyLine(e.after))
			} else {
				change.Keys = append(change.Keys, keyLine{Key: text(e.before.Key), Mod: e.revision})
			}
		}
		encoder.Encode(line{Change: &change})
	}
	for _, log := range r.leases.logs {
		l := leaseLine{ID: leaseText(log.id), First: time(log.first), Ended: log.ended, At: log.at}
		for _, k := range log.looks {
			l.Looks = append(l.Looks, lookLine{time(k.seen), time(k.early), time(k.late), k.ttl, k.renewals, k.term})
		}
		if log.ended != Alive {
			l.End = time(log.end)
			for _, key := range log.lostKeys {
				l.Keys = append(l.Keys, text(key))
			}
		}
		encoder.Encode(line{Lease: &l})
	}
	for _, of := range r.members.looks {
		for _, look := range of {
			encoder.Encode(line{Member: &memberLine{time(look.seen), look.Name, look.Endpoint,
				look.ID, look.Role, look.Term, look.Size, look.Quota, look.Full}})
		}
	}
	for _, n := range r.notes {
		encoder.Encode(line{Note: &noteLine{n.Revision, n.Seen.UTC(), n.Text}})
	}
	encoder.Encode(line{End: &endLine{r.last, time(r.heard)}})
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("save the record: %w", err)
	}
	return nil
}

// LoadFile returns the record that a file has, with the usual limits. See Load.
func LoadFile(name string) (*Record, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	record, err := Load(file, Limits{})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return record, nil
}

// Load returns the record that Save has written. What does not follow from what is
// before it, or has no end, is refused with an error that names the line.
func Load(reader io.Reader, limits Limits) (*Record, error) {
	l := loading{limits: limits}
	decoder := json.NewDecoder(reader)
	for number := 1; !l.ended; number++ {
		var next line
		err := decoder.Decode(&next)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = l.add(next)
		}
		if err != nil {
			return nil, fmt.Errorf("load a record, line %d: %w", number, err)
		}
	}
	return l.record, nil
}

type loading struct {
	limits Limits
	begin  *beginLine
	keys   []*KeyValue
	record *Record // nil as long as keys may come
	logs   []*leaseLog
	ended  bool
}

func (l *loading) add(next line) error {
	switch {
	case next.Begin != nil && l.begin == nil && next.Begin.Format == format:
		l.begin = next.Begin
		return nil
	case l.begin == nil || next.Begin != nil:
		return fmt.Errorf("it does not begin as %q does", format)
	case next.Key != nil && l.record == nil:
		kv, err := next.Key.keyValue()
		l.keys = append(l.keys, kv)
		return err
	}
	if l.record == nil {
		l.record = New(l.limits, l.begin.Revision, l.keys, l.begin.Seen)
	}
	switch r := l.record; {
	case next.Change != nil:
		var changes []Put
		for _, key := range next.Change.Keys {
			kv, err := key.keyValue()
			if err != nil {
				return err
			}
			changes = append(changes, *kv)
		}
		return r.Append(changes, next.Change.Seen)
	case next.Lease != nil:
		log, err := next.Lease.log(r.began)
		l.logs = append(l.logs, log)
		return err
	case next.Member != nil:
		m := next.Member
		r.Member(Member{m.Name, m.Endpoint, m.ID, m.Role, m.Term, m.Size, m.Quota, m.Full}, m.Seen)
		return nil
	case next.Note != nil:
		r.Note(next.Note.Revision, next.Note.Text, next.Note.Seen)
		return nil
	case next.End != nil:
		if next.End.Revision != r.last {
			return fmt.Errorf("the end, at revision %d, after revision %d: %w", next.End.Revision, r.last, ErrGap)
		}
		r.heardAt(next.End.Heard)
		r.leases = newLeases(l.logs, r.now)
		l.ended = true
		return nil
	default:
		return errors.New("a line of no known kind")
	}
}

func (l *leaseLine) log(began time.Time) (*leaseLog, error) {
	id, err := leaseID(l.ID)
	log := &leaseLog{id: id, first: l.First.Sub(began), ended: l.Ended, at: l.At}
	if l.Ended != Alive {
		log.end = l.End.Sub(began)
	}
	for _, look := range l.Looks {
		log.looks = append(log.looks, known{look.Seen.Sub(began), look.Early.Sub(began),
			look.Late.Sub(began), look.TTL, look.Renewals, look.Term})
	}
	for _, key := range l.Keys {
		log.lostKeys = append(log.lostKeys, string(key))
	}
	return log, err
}
