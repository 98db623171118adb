package class

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// What a class has in its etcd, beside the learners' keys. No name begins with a dot.
const (
	innerPrefix = "."

	// namesPrefix is before a name; the value is the hash of the key that it belongs
	// to, or removed. Only root can read it.
	namesPrefix = ".names/"
	removed     = "removed"

	// herePrefix is before the name of each learner who is there. The key has a lease
	// that the learner's desk keeps alive.
	herePrefix = ".here/"

	// Common is the name before the keys that all may write, and the role for it.
	Common = "class"

	// Teacher is the name of the one whose machine the class is on.
	Teacher = "teacher"
)

// Prefix returns what is before all keys of a learner, or before those of Common.
func Prefix(name string) string { return name + ":" }

var wellFormed = regexp.MustCompile(`^[a-z][a-z0-9-]{0,19}$`)

// checkName returns an error when nobody may have that name.
func checkName(name string) error {
	switch {
	case !wellFormed.MatchString(name):
		return fmt.Errorf("%q cannot be a name: take at most 20 small letters, digits and "+
			"hyphens, a letter first", name)
	case slices.Contains([]string{Common, Teacher, rootUser}, name):
		return fmt.Errorf("the name %s belongs to the class: take another", name)
	}
	return nil
}

var (
	errTaken   = errors.New("is somebody else's in this class: take another, or ask the teacher to free it")
	errRemoved = errors.New("was removed from this class, and nobody gets it again")
	errFreed   = errors.New("was freed by the teacher: join again, unless somebody else has it by now")
)

// register has the names of a class, in etcd.
type register struct{ client *clientv3.Client }

// found makes an etcd one of a class: with users, of whom root is one. It can be
// repeated.
func (r register) found(ctx context.Context) error {
	status, err := r.client.AuthStatus(ctx)
	if err == nil && !status.Enabled {
		err = r.role(ctx, Common, prefixRange(Prefix(Common)))
		if err == nil {
			err = r.user(ctx, rootUser, rootUser)
		}
		if err == nil {
			_, err = r.client.AuthEnable(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("give the class's etcd its users: %w", err)
	}
	return nil
}

// keys are a range of them, as etcd has it.
type keys struct{ first, end string }

func prefixRange(prefix string) keys {
	return keys{prefix, clientv3.GetPrefixRangeEnd(prefix)}
}

// role makes a role that may read and write some keys.
func (r register) role(ctx context.Context, name string, ranges ...keys) error {
	if _, err := r.client.RoleAdd(ctx, name); err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
		return err
	}
	for _, keys := range ranges {
		if _, err := r.client.RoleGrantPermission(ctx, name, keys.first, keys.end,
			clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
			return err
		}
	}
	return nil
}

// user makes a user with no password, so that only a certificate can prove it.
func (r register) user(ctx context.Context, name string, roles ...string) error {
	_, err := r.client.UserAddWithOptions(ctx, name, "", &clientv3.UserAddOptions{NoPassword: true})
	if err != nil && !errors.Is(err, rpctypes.ErrUserAlreadyExist) {
		return err
	}
	for _, role := range roles {
		if _, err := r.client.UserGrantRole(ctx, name, role); err != nil {
			return err
		}
	}
	return nil
}

// userOf returns the user that a name and a key are. A name that is freed and taken
// again is another user, so that the certificate for the first key is worth nothing.
func userOf(name, hash string) string { return name + "." + hash[:16] }

// join lets the holder of a key have a name, and returns the user. Who has it already
// gets it again; with again nobody else does.
func (r register) join(ctx context.Context, name, hash string, again bool) (user string, err error) {
	key := namesPrefix + name
	write := clientv3.OpPut(key, hash)
	if again {
		write = clientv3.OpGet(key)
	}
	got, err := r.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(write).
		Else(clientv3.OpGet(key)).
		Commit()
	if err != nil {
		return "", fmt.Errorf("write the name %s down: %w", name, err)
	}
	if !got.Succeeded {
		switch string(got.Responses[0].GetResponseRange().Kvs[0].Value) {
		case hash:
		case removed:
			return "", fmt.Errorf("the name %s %w: take another", name, errRemoved)
		default:
			return "", fmt.Errorf("the name %s %w", name, errTaken)
		}
	} else if again {
		return "", fmt.Errorf("the name %s %w", name, errFreed)
	}
	user = userOf(name, hash)
	known, err := r.client.UserGet(ctx, user)
	if err == nil && len(known.Roles) == 2 {
		return user, nil // Each change of a user disturbs all others for a moment.
	}
	if err == nil || errors.Is(err, rpctypes.ErrUserNotFound) {
		err = r.role(ctx, name, prefixRange(Prefix(name)), keys{herePrefix + name, ""})
	}
	if err == nil {
		err = r.user(ctx, user, name, Common)
	}
	if err != nil {
		return "", fmt.Errorf("make the user %s: %w", name, err)
	}
	return user, nil
}

// Learner is one who has joined.
type Learner struct {
	Name    string
	Here    bool // with a desk that runs
	Removed bool
	Keys    int64    // how many there are
	Passed  []string // the exercises, while they are here
}

// list returns all who have ever joined, in the order of their names.
func (r register) list(ctx context.Context) ([]Learner, error) {
	names, err := r.client.Get(ctx, namesPrefix, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("read the names: %w", err)
	}
	here, err := r.client.Get(ctx, herePrefix, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("read who is there: %w", err)
	}
	passed := map[string][]string{} // by those who are there
	for _, kv := range here.Kvs {
		passed[strings.TrimPrefix(string(kv.Key), herePrefix)] = strings.Fields(string(kv.Value))
	}
	var all []Learner
	for _, kv := range names.Kvs {
		name := strings.TrimPrefix(string(kv.Key), namesPrefix)
		count, err := r.client.Get(ctx, Prefix(name), clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return nil, fmt.Errorf("count the keys of %s: %w", name, err)
		}
		exercises, here := passed[name]
		all = append(all, Learner{Name: name, Here: here, Removed: string(kv.Value) == removed,
			Keys: count.Count, Passed: exercises})
	}
	return all, nil
}

// holder returns what is written down for a name.
func (r register) holder(ctx context.Context, name string) (string, error) {
	got, err := r.client.Get(ctx, namesPrefix+name)
	switch {
	case err != nil:
		return "", fmt.Errorf("read the name %s: %w", name, err)
	case len(got.Kvs) == 0:
		return "", fmt.Errorf("nobody in this class has the name %s", name)
	}
	return string(got.Kvs[0].Value), nil
}

// dismiss has a name's user know no more.
func (r register) dismiss(ctx context.Context, name string) error {
	users, err := r.client.UserList(ctx)
	if err != nil {
		return fmt.Errorf("read the users: %w", err)
	}
	for _, user := range users.Users {
		if strings.HasPrefix(user, name+".") {
			if _, err := r.client.UserDelete(ctx, user); err != nil {
				return fmt.Errorf("delete the user %s: %w", user, err)
			}
		}
	}
	// Their desk hears of it when its lease is gone.
	here, err := r.client.Get(ctx, herePrefix+name)
	if err == nil && len(here.Kvs) > 0 && here.Kvs[0].Lease != 0 {
		_, err = r.client.Revoke(ctx, clientv3.LeaseID(here.Kvs[0].Lease))
	}
	if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) {
		_, err = r.client.Delete(ctx, herePrefix+name)
	}
	if err != nil {
		return fmt.Errorf("note that %s is not there: %w", name, err)
	}
	return nil
}

// free lets another key have a name. The keys of the name stay, for who comes next.
func (r register) free(ctx context.Context, name string) error {
	held, err := r.holder(ctx, name)
	if err != nil {
		return err
	}
	if held == removed {
		return fmt.Errorf("the name %s %w", name, errRemoved)
	}
	if err := r.dismiss(ctx, name); err != nil {
		return err
	}
	if _, err := r.client.Delete(ctx, namesPrefix+name); err != nil {
		return fmt.Errorf("free the name %s: %w", name, err)
	}
	return nil
}

// remove ends a learner's part in the class, with all their keys.
func (r register) remove(ctx context.Context, name string) error {
	if _, err := r.holder(ctx, name); err != nil {
		return err
	}
	// First of all: who is removed could join again until then.
	if _, err := r.client.Put(ctx, namesPrefix+name, removed); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if err := r.dismiss(ctx, name); err != nil {
		return err
	}
	if _, err := r.client.RoleDelete(ctx, name); err != nil && !errors.Is(err, rpctypes.ErrRoleNotFound) {
		return fmt.Errorf("delete the role %s: %w", name, err)
	}
	_, err := r.reset(ctx, name)
	return err
}

// reset deletes all keys of a learner, or of Common, and returns how many there were.
func (r register) reset(ctx context.Context, name string) (int64, error) {
	if name != Common {
		if _, err := r.holder(ctx, name); err != nil {
			return 0, err
		}
	}
	got, err := deleteKeys(ctx, r.client, name)
	if err != nil {
		return 0, err
	}
	return got.Deleted, nil
}

func deleteKeys(ctx context.Context, client *clientv3.Client, name string) (*clientv3.DeleteResponse, error) {
	got, err := client.Delete(ctx, Prefix(name), clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("delete the keys of %s: %w", name, err)
	}
	return got, nil
}

// room makes room in a full database: what is past is forgotten, what that leaves free
// goes back to the disk, and etcd may write again.
func (r register) room(ctx context.Context, endpoints []string) error {
	now, err := r.client.Get(ctx, namesPrefix, clientv3.WithCountOnly())
	if err == nil {
		_, err = r.client.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("forget what is past: %w", err)
	}
	for _, endpoint := range slices.Sorted(slices.Values(endpoints)) {
		if _, err := r.client.Defragment(ctx, endpoint); err != nil {
			return fmt.Errorf("defragment %s: %w", endpoint, err)
		}
	}
	if _, err := r.client.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		return fmt.Errorf("disarm the alarm: %w", err)
	}
	return nil
}
