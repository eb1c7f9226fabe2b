package protocol

// Answers is a set of kinds of answers.
type Answers uint32

// Has tells whether the set holds a kind.
func (a Answers) Has(kind Answer) bool { return a&(1<<kind) != 0 }

func answers(kinds ...Answer) Answers {
	var a Answers
	for _, k := range kinds {
		a |= 1 << k
	}
	return a
}

var (
	storageAnswers = answers(Stored, Done, NotStored, Exists, NotFound)
	deleteAnswers  = answers(Deleted, Done, Exists, NotFound)
	arithAnswers   = answers(Number, NotFound, Exists)
	touchAnswers   = answers(Touched, Done, NotFound)
	flushAnswers   = answers(OK)
	debugAnswers   = answers(Other)
)

// AnswersTo is what a server may answer to an operation in one line, errors
// not counted (protocol.txt).
func AnswersTo(op Op) Answers {
	switch op {
	case OpSet, OpAdd, OpReplace, OpAppend, OpPrepend, OpCas:
		return storageAnswers
	case OpMetaDebug:
		return debugAnswers
	case OpDelete, OpInvalidate:
		return deleteAnswers
	case OpIncr, OpDecr:
		return arithAnswers
	case OpTouch:
		return touchAnswers
	case OpFlushAll:
		return flushAnswers
	}
	return 0
}
